"""`vpolicy describe`: every option is explained, and what is shown of a recipe is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from command import vpolicy

from videopolicy import testing
from videopolicy.components.kinds import KINDS
from videopolicy.components.registry import current_registry
from videopolicy.describing.options import options_of
from videopolicy.describing.pages import component_page, groups_of, kind_page, kinds_page
from videopolicy.scaffold.writing import KINDS as TEMPLATES

ENTRIES = current_registry().entries()

PART = '''
"""Parts to be described."""

from typing import Annotated, Literal

from pydantic import Field

from videopolicy import AnyBackbone, AnyText, DecoderComponent, WhenActing
from videopolicy.parts.options import Options


class Levels(Options):
    """Where noise begins.

    Args:
        lowest, highest: As sigma.
    """

    lowest: float = Field(0.1, gt=0)
    highest: float = 80.0


class Shown(DecoderComponent):
    """Decodes by looking hard (section 3.1 of nobody's paper),
    with ``effort``.

    A second paragraph.

    Args:
        horizon: H, actions of a chunk, of which
            each takes a tenth of a second.
        mode: How hard.
        text: What reads.
        steps: How often.
        sizes: Of the layers.
        place: Of the weights.
        levels: Of noise.

    Raises:
        ValueError: Never.
    """

    type: Literal["shown"] = "shown"
    horizon: int = Field(ge=4, le=16)
    mode: Literal["soft", "hard"] | None = None
    text: AnyText
    steps: Annotated[int, WhenActing()] = Field(10, ge=1)
    sizes: tuple[int, ...] = Field((8, 4), min_length=1)
    levels: Levels = Levels()
'''

PAGE = """\
# shown

decoder, from file

Decodes by looking hard (section 3.1 of nobody's paper), with `effort`.

A second paragraph.

```yaml
decoder:
  type: shown
  horizon: 4
  text:
    type: clip-text
```

## Options

- `horizon` (int from 4 to 16; required): H, actions of a chunk, of which each
  takes a tenth of a second.
- `mode` (`soft`, `hard` or null; default `null`): How hard.
- `text` (a text encoder; required): What reads. Installed: %s.
- `steps` (int from 1; default `10`; when acting): How often.
- `sizes` (list of int, not empty; default `[8, 4]`): Of the layers.
- `levels` (options below; optional): Of noise.

### `levels`

Where noise begins.

- `lowest` (float above 0; default `0.1`): As sigma.
- `highest` (float; default `80.0`): As sigma.
"""


def test_a_page_says_what_the_class_says(tmp_path: Path):
    (tmp_path / "shown.py").write_text(PART, encoding="utf-8")
    done = vpolicy(tmp_path, "describe", "shown.py")
    assert done.returncode == 0, done.stderr

    def unwrapped(text: str) -> str:
        return re.sub(r"\n  (?=\S)", " ", text.partition("## Options")[2])

    texts = ", ".join(current_registry().names("text"))
    assert done.stdout.partition("## Options")[0] == PAGE.partition("## Options")[0]
    assert unwrapped(done.stdout).strip() == unwrapped(PAGE % texts).strip()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.component.kind}-{entry.component.name()}")
def test_every_component_has_a_page(entry):
    page = component_page(entry, current_registry())
    assert [line for line in page.splitlines() if len(line) > 80] == []
    if entry.component.kind != "importer":
        (written,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
        (data,) = yaml.safe_load(written).values()
        entry.component.model_validate(data, context={"registry": current_registry()})
    unexplained = [
        f"{place} {option.name}"
        for model, place in groups_of(entry.component)
        for option in options_of(model)
        if not option.meaning
    ]
    assert unexplained == [], "Say under Args in the docstring what these mean."


def test_kinds_are_all_there_and_say_what_they_take():
    page = kinds_page(current_registry())
    for kind in KINDS:
        assert f"- `{kind}`: " in page
    policy = " ".join(page.partition("- `policy`")[2].partition("- `")[0].split())
    assert "Takes: decoder, extractor" in policy and "modular" in policy
    assert max(map(len, page.splitlines())) <= 80
    assert "`videopolicy.testing.DecoderContract`" in " ".join(kind_page("decoder", current_registry()).split())
    assert "vpolicy new" not in kind_page("text", current_registry())


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_on_a_kind_names_only_what_is_there(kind: str):
    said = " ".join(kind_page(kind, current_registry()).split())
    assert (f"`vpolicy new {kind} NAME`" in said) == (kind in TEMPLATES)
    for contract in re.findall(r"`videopolicy\.testing\.(\w+)`", said):
        assert hasattr(testing, contract)


def test_an_unknown_name_is_answered_with_a_near_one(tmp_path: Path):
    done = vpolicy(tmp_path, "describe", "word-txet")
    assert done.returncode == 2
    assert "There is no component and no kind named 'word-txet'. Did you mean 'word-text'?" in done.stderr


def test_plugins_has_one_line_a_component(tmp_path: Path):
    done = vpolicy(tmp_path, "plugins", COLUMNS="80")
    lines = done.stdout.splitlines()
    assert len(lines) == len(ENTRIES) + 2 and max(map(len, lines)) <= 80
    assert "vpolicy describe NAME" in lines[-1]
    for entry in ENTRIES:
        assert any(line.split()[:2] == [entry.component.name(), entry.component.kind] for line in lines)
