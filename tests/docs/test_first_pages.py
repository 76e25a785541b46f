"""The pages for a beginning: quoted files are the files, commands and overrides are valid, and the Python code runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from command import vpolicy
from pages import FENCES, QUOTE, named_command, options

from videopolicy.recipes.ablation import load_ablation
from videopolicy.recipes.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
FIRST = [ROOT / "docs" / f"{name}.md" for name in ("index", "get-started", "tutorial", "concepts", "results")]
PAGES = [*FIRST, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def blocks(page: Path, language: str) -> list[str]:
    return [block for name, block in FENCES.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page: Path) -> list[list[str]]:
    """The words behind ``vpolicy`` in blocks without a language."""
    lines = [line for block in blocks(page, "") for line in block.splitlines() if line.startswith("vpolicy ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    for named in commands(page):
        command, words = named_command(named)
        assert {word for word in words if word.startswith("-")} <= options(command), words


def test_recipes_on_the_pages_are_valid_with_their_overrides() -> None:
    """As are the rows of ablations."""
    shown = {tuple(words) for page in FIRST for words in commands(page) if "recipes/" in " ".join(words)}
    for verb, recipe, *rest in sorted(shown):
        overrides = [word for word in rest if "=" in word]
        if verb == "ablate":
            assert load_ablation(ROOT / recipe, overrides=overrides).variants
        else:
            load_recipe(ROOT / recipe, overrides)
    assert len(shown) >= 10


@pytest.mark.parametrize("page", FIRST, ids=lambda page: page.name)
def test_quoted_files_are_the_files(page: Path) -> None:
    quotes = QUOTE.findall(page.read_text(encoding="utf-8"))
    assert len(quotes) == {"get-started.md": 1, "tutorial.md": 1}.get(page.name, 0)
    for name, quoted in quotes:
        assert quoted == (page.parent / name).read_text(encoding="utf-8"), f"{page.name} differs from {name}"


def test_the_first_policy_is_trained_shown_and_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = (
        "data.episodes_per_task=2",
        "train.policy.steps=2",
        "eval={episodes: 1, execute: 4, workers: 1}",
        "tracking=[]",
    )
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "home"))
    done = vpolicy(tmp_path, "run", str(ROOT / "recipes" / "first_policy.yaml"), *small)
    assert done.returncode == 0, done.stderr
    page = ROOT / "docs" / "get-started.md"
    (show,) = (words for words in commands(page) if words[0] == "show")
    assert "mean of all tasks" in vpolicy(tmp_path, *show).stdout
    (code,) = blocks(page, "python")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out == "(8, 2)\n"


def test_the_code_on_levels_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(ROOT / "docs" / "concepts.md", "python")
    exec(code, {})
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == re.findall(r"# (tensor\(.*\))$", code, re.MULTILINE)
    assert said[2].startswith("tensor([8.0000e+01") and said[2].endswith("0.0000e+00])")
