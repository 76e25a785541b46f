"""Pages that are made of the code: commands, components with their options, and the Python API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
import typer
from typer.cli import get_docs_for_click

from videopolicy.cli.main import app
from videopolicy.components.kinds import KINDS
from videopolicy.components.registry import Registry, current_registry
from videopolicy.describing.fragments import parts_of_kind
from videopolicy.describing.pages import component_page, kind_page, kinds_page

FOLDER = "reference/"
SOURCES = Path(__file__).resolve().parents[2] / "src"

_HOMES = {
    "For callers": ("deployment",),
    "What parts promise": (
        "contracts.policy",
        "contracts.backbone",
        "contracts.extractor",
        "contracts.decoder",
        "contracts.learner",
        "contracts.text",
        "contracts.latents",
        "contracts.measured",
        "contracts.multiplier",
    ),
    "What recipes name": ("components",),
    "Benchmarks and data": ("contracts.benchmark", "contracts.dataset", "spaces", "views"),
    "Batches, features, noise": ("types",),
    "Published weights": ("contracts.importer", "importing"),
    "Errors and messages": ("errors", "console"),
}
"""Headings of the page on `videopolicy`, with the modules whose public names stand below them."""


def reference_pages() -> dict[str, str]:
    """Markdown by place on the site."""
    registry = current_registry()
    return {
        f"{FOLDER}cli.md": cli_page(),
        f"{FOLDER}components/index.md": _linked(kinds_page(registry), dict.fromkeys(KINDS, "")),
        **{f"{FOLDER}components/{kind}.md": components_page(kind, registry) for kind in KINDS},
        f"{FOLDER}python/index.md": python_page(_module("videopolicy")),
        f"{FOLDER}python/parts.md": parts_page(_module("videopolicy.parts")),
        f"{FOLDER}python/testing.md": testing_page(_module("videopolicy.testing")),
    }


def cli_page() -> str:
    """All commands with their options, as `--help` has them."""
    command = typer.main.get_command(app)
    _say_whole_lines(command)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="vpolicy"), name="vpolicy")
    return text.replace("# `vpolicy`\n", "# Commands\n", 1)


def _say_whole_lines(command: Any) -> None:
    """Let lists of commands have the first paragraph of each, which is cut short for a terminal otherwise."""
    for inner in getattr(command, "commands", {}).values():
        inner.short_help = " ".join((inner.help or "").partition("\n\n")[0].split())
        _say_whole_lines(inner)


def components_page(kind: str, registry: Registry) -> str:
    """A kind, then every component of it, as ``vpolicy describe`` shows them."""
    places = {cls.name(): "" if cls.kind == kind else cls.kind for cls in parts_of_kind(kind, registry)}
    own = [entry for entry in registry.entries() if entry.component.kind == kind]
    pages = [_lower(component_page(entry, registry)) for entry in own]
    return "\n".join([_linked(kind_page(kind, registry), places, anchor=True), *pages])


def python_page(module: griffe.Module) -> str:
    """Every public name of ``videopolicy``, by what it is for."""
    lines = _opening(module)
    left = {str(name): _home(module[str(name)]) for name in module.exports or ()}
    for heading, homes in _HOMES.items():
        names = [name for name, home in left.items() if home.startswith(homes)]
        lines += [f"## {heading}", "", *_entries(module, names)]
        left = {name: home for name, home in left.items() if name not in names}
    if left:
        raise LookupError(f"scripts/site/site_reference.py has no heading for {sorted(left)}")
    return "\n".join(lines)


def parts_page(package: griffe.Module) -> str:
    """The modules of ``videopolicy.parts``."""
    lines = _opening(package)
    for name in sorted(path.stem for path in SOURCES.joinpath(*package.path.split(".")).glob("[!_]*.py")):
        lines += [f"::: {package.path}.{name}", "    options:", "      heading_level: 2", ""]
    return "\n".join(lines)


def testing_page(package: griffe.Module) -> str:
    """The public names of ``videopolicy.testing``."""
    return "\n".join([*_opening(package), *_entries(package, [str(name) for name in package.exports or ()])])


def _module(path: str) -> griffe.Module:
    """A package's own text, without that of its modules."""
    file = SOURCES.joinpath(*path.split("."), "__init__.py")
    return griffe.visit(path, file, file.read_text(encoding="utf-8"))


def _opening(module: griffe.Module) -> list[str]:
    """A package's docstring, without what it may import."""
    text = module.docstring.value if module.docstring else ""
    blocks = [block for block in text.split("\n\n") if not block.startswith("May import")]
    return [f"# {module.path}", "", "\n\n".join(blocks), ""]


def _home(member: griffe.Object | griffe.Alias) -> str:
    """The module that a public name is from, without ``videopolicy.``."""
    path = member.target_path if isinstance(member, griffe.Alias) else member.path
    return path.removeprefix("videopolicy.")


def _entries(package: griffe.Module, names: list[str]) -> Iterator[str]:
    for name in names:
        yield from (f"::: {package.path}.{name}", "")


def _lower(text: str) -> str:
    """A page as a section: headings one level down."""
    return re.sub(r"^(#+ )", r"#\1", text, flags=re.MULTILINE)


def _linked(text: str, places: dict[str, str], *, anchor: bool = False) -> str:
    """A list whose entries lead to what they name: a page, or the part of one."""

    def link(match: re.Match[str]) -> str:
        name = match[1]
        if name not in places:
            return match[0]
        page = f"{places[name]}.md" if places[name] else ""
        return f"- [`{name}`]({page}#{name})" if anchor else f"- [`{name}`]({name}.md)"

    return re.sub(r"^- `([\w-]+)`", link, text, flags=re.MULTILINE)
