"""The site's navigation, links and generated pages, without building it; `make docs` does that."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from typer.main import get_command

import videopolicy
from videopolicy.cli.main import app
from videopolicy.components.kinds import KINDS
from videopolicy.components.registry import current_registry
from videopolicy.describing.options import options_of
from videopolicy.describing.pages import groups_of

ROOT = Path(__file__).resolve().parents[2]


class _Settings(yaml.SafeLoader):
    """Reads mkdocs.yml without making the objects that it names."""


_Settings.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The modules of scripts/site, as MkDocs finds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts" / "site"))
        patch.chdir(ROOT)
        names = ("site_links", "site_navigation", "site_reference")
        yield {name: __import__(name) for name in names}
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def reference(scripts: dict[str, ModuleType]) -> dict[str, str]:
    return scripts["site_reference"].reference_pages()


def test_the_navigation_lists_every_page_once(scripts: dict[str, ModuleType], reference: dict[str, str]) -> None:
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Settings)
    place_of, navigation = scripts["site_links"].place_of, scripts["site_navigation"]
    files = [path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*/README.md"))]
    pages = [place_of(name) for name in files if not name.startswith("docs/examples/")]
    written = [place for place in pages if not place.startswith("repository/")]
    listed = list(navigation.patterns(navigation.expanded(settings["nav"], [*pages, *reference])))
    assert sorted(set(listed) - {place for place in listed if place.startswith("repository/")}) == sorted(
        [*written, *reference]
    )
    assert len(listed) == len(set(listed))
    assert "repository/plugins/vpp/README.md" in listed
    decisions = [place for place in listed if place.startswith("decisions/")]
    assert decisions[0] == "decisions/index.md" and decisions[1:] == sorted(decisions[1:])


def test_a_pattern_without_a_page_leaves_no_section(scripts: dict[str, ModuleType]) -> None:
    entries = ["b.md", {"More": ["c/*.md"]}, {"None": "d/*.md"}]
    found = scripts["site_navigation"].expanded(entries, ["b.md", "c/x.md", "c/index.md", "c/e/y.md"])
    assert found == ["b.md", {"More": ["c/index.md", "c/x.md"]}]


def test_links_to_files_beside_the_pages_lead_to_pages(scripts: dict[str, ModuleType]) -> None:
    links = scripts["site_links"]
    text = (
        "[a](../recipes/quickstart.yaml) [b](data.md#x) [c](https://example.org) [d](../plugins/vpp)\n"
        "```\n[a](../recipes/quickstart.yaml)\n```\n[e](gone.md)"
    )
    assert links.relinked(text, "tutorial.md") == (
        "[a](repository/recipes/quickstart.yaml.md) [b](data.md#x) [c](https://example.org) "
        "[d](repository/plugins/vpp/README.md)\n```\n[a](../recipes/quickstart.yaml)\n```\n[e](gone.md)"
    )
    found = links.repository_pages({"docs/tutorial.md": text})
    assert found["repository/recipes/quickstart.yaml.md"].startswith("# recipes/quickstart.yaml\n\n````yaml\n")
    assert "../../../weights.md#vpp" in links.relinked(
        found["repository/plugins/vpp/README.md"], "repository/plugins/vpp/README.md"
    )
    assert "repository/plugins/encoders/README.md" in found, "a page that another one from beside docs/ links to"
    assert not any(place.startswith("data") for place in found)


def test_the_reference_has_every_command_with_its_options(reference: dict[str, str]) -> None:
    page = reference["reference/cli.md"]
    sections = dict(re.findall(r"^#+ `(vpolicy[\w -]*)`\n(.*?)(?=^#+ |\Z)", page, flags=re.DOTALL | re.MULTILINE))
    waiting = [("vpolicy", get_command(app))]
    for name, command in waiting:
        inside = getattr(command, "commands", {})
        waiting += [(f"{name} {verb}", inner) for verb, inner in inside.items()]
        options = [one for parameter in command.params for one in parameter.opts if one.startswith("--")]
        assert inside or all(one in sections[name] for one in options), f"{name} {options}"
    assert len(waiting) > 25


def test_the_reference_has_every_component_with_its_options(reference: dict[str, str]) -> None:
    for entry in current_registry().entries():
        page = reference[f"reference/components/{entry.component.kind}.md"]
        name = entry.component.name()
        assert f"- [`{name}`](#{name})" in page
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        options = [option.name for group, _ in groups_of(entry.component) for option in options_of(group)]
        missing = [option for option in options if option not in section]
        assert section and (not missing or "Its options are those of" in section), f"{name}: {missing}"
    for kind in KINDS:
        assert f"- [`{kind}`]({kind}.md)" in reference["reference/components/index.md"]


def test_the_reference_has_every_public_name_once(reference: dict[str, str]) -> None:
    listed = re.findall(r"^::: videopolicy\.(\w+)$", reference["reference/python/index.md"], flags=re.MULTILINE)
    assert sorted(listed) == sorted(videopolicy.__all__)
    assert set(videopolicy.__all__) <= set(dir(videopolicy))
    parts = re.findall(r"^::: videopolicy\.parts\.(\w+)$", reference["reference/python/parts.md"], flags=re.MULTILINE)
    assert parts == sorted(path.stem for path in (ROOT / "src/videopolicy/parts").glob("[!_]*.py"))
