"""Pages on components and kinds, as Markdown of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import yaml
from pydantic import BaseModel

from videopolicy import testing
from videopolicy.components.kinds import KINDS, Component
from videopolicy.components.registry import RegisteredComponent, Registry
from videopolicy.describing.docstrings import paragraphs, summary
from videopolicy.describing.fragments import fragment, parts_of_kind
from videopolicy.describing.options import Option, name_of, options_of
from videopolicy.errors import PluginError, did_you_mean, listing
from videopolicy.scaffold.writing import KINDS as TEMPLATES

_COLUMNS = 80
_SECTIONS = {"dataset": "data"}
"""What a recipe calls a part of a kind, where that is not its kind's name."""


def page(name: str, registry: Registry) -> str:
    """The page on a component, on all components of a name, or on a kind.

    Raises:
        PluginError: There is none of this name.
    """
    found = [entry for entry in registry.entries() if entry.component.name() == name]
    if found:
        return "\n".join(component_page(entry, registry) for entry in found)
    if name in KINDS:
        return kind_page(name, registry)
    known = sorted({entry.component.name() for entry in registry.entries()} | set(KINDS))
    message = f"There is no component and no kind named '{name}'.{did_you_mean(name, known)}"
    for plugin in registry.plugins:
        message += f" {plugin.trouble}" if plugin.trouble else ""
    raise PluginError(message, "`vpolicy plugins` lists the components, and `vpolicy describe` the kinds.")


def component_page(entry: RegisteredComponent, registry: Registry) -> str:
    """What a component is, the least that a recipe says about it, and all its options."""
    cls = entry.component
    lines = [f"# {cls.name()}", "", f"{cls.kind}, from {entry.plugin.distribution}", ""]
    for paragraph in paragraphs(cls):
        lines += [*_wrapped(paragraph), ""]
    lines += _written(cls, registry)
    said: dict[tuple[Option, ...], str] = {}
    for model, place in groups_of(cls):
        options = tuple(options_of(model))
        if model is not cls:
            lines += [f"### {place}", ""]
            for paragraph in paragraphs(model):
                lines += [*_wrapped(paragraph), ""]
        elif options:
            lines += ["## Options", ""]
        if same := said.get(options):
            lines += [*_wrapped(f"Its options are those of {same}."), ""]
        elif options:
            lines += [line for option in options for line in _option(option, registry)]
            lines.append("")
        else:
            lines += ["It has no options.", ""]
        said[options] = place
    return "\n".join(lines)


def kind_page(kind: str, registry: Registry) -> str:
    """What a kind is, and the components of it."""
    base = KINDS[kind]
    lines = [f"# Kind {kind}", ""]
    for paragraph in paragraphs(base):
        lines += [*_wrapped(paragraph), ""]
    contract = f"{base.__name__.removesuffix('Component')}Contract"
    checked = f"; `videopolicy.testing.{contract}` checks what it promises" if contract in testing.__all__ else ""
    lines += _wrapped(f"Subclass `videopolicy.{base.__name__}`{checked}.")
    if kind in TEMPLATES:
        lines += _wrapped(f"`vpolicy new {kind} NAME` writes one to begin with.")
    lines.append("")
    for cls in parts_of_kind(kind, registry):
        also = "" if cls.kind == kind else f" ({cls.kind})"
        lines += _wrapped(f"- `{cls.name()}`{also}: {summary(cls)}", "  ")
    return "\n".join([*lines, ""])


def kinds_page(registry: Registry) -> str:
    """All kinds: what each is, which parts stand in which, and what is installed."""
    lines = ["# Kinds of parts", ""]
    lines += _wrapped(
        "A recipe names a `benchmark`, a dataset as its `data`, and a `policy`; parts stand in each other. "
        "`vpolicy describe NAME` says what a component or a kind is."
    )
    lines.append("")
    for kind, base in KINDS.items():
        own = [entry.component for entry in registry.entries() if entry.component.kind == kind]
        inside = sorted(
            {held for cls in own for model, _ in groups_of(cls) for o in options_of(model) for held in o.kinds}
        )
        takes = f" Takes: {', '.join(inside)}." if inside else ""
        lines += _wrapped(f"- `{kind}`: {summary(base)}{takes}", "  ")
        lines += _wrapped(f"  Installed: {', '.join(sorted(cls.name() for cls in own)) or 'none'}.", "  ")
    return "\n".join([*lines, ""])


def _written(cls: type[Component], registry: Registry) -> list[str]:
    """How a component is asked for."""
    if cls.kind == "importer":
        return ["```", f"vpolicy import {cls.name()} FILE -o FOLDER", "```", ""]
    data = fragment(cls, registry)
    if data is None:
        return []
    text = yaml.safe_dump({_SECTIONS.get(cls.kind, cls.kind): data}, sort_keys=False, width=_COLUMNS)
    return ["```yaml", *text.rstrip().splitlines(), "```", ""]


def _option(option: Option, registry: Registry) -> list[str]:
    default = "required" if option.default is None else f"default `{option.default}`"
    if option.groups and option.default == "{}":
        default = "optional"
    acting = "; when acting" if option.when_acting else ""
    names = sorted({cls.name() for kind in option.kinds for cls in parts_of_kind(kind, registry)})
    installed = f"Installed: {listing(names)}." if option.kinds else ""
    text = " ".join(filter(None, [option.meaning, installed]))
    return _wrapped(f"- `{option.name}` ({option.words}; {default}{acting}){': ' if text else ''}{text}", "  ")


def groups_of(cls: type[Component]) -> Iterator[tuple[type[BaseModel], str]]:
    """The component and its groups of options, each once, with the option that takes it."""
    waiting: list[tuple[type[BaseModel], str]] = [(cls, "")]
    seen: set[type[BaseModel]] = set()
    while waiting:
        model, place = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield model, f"`{place}: {{type: {name_of(model)}}}`" if name_of(model) and place else f"`{place}`"
        before = f"{place}." if place else ""
        waiting += [(group, f"{before}{option.name}") for option in options_of(model) for group in option.groups]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
