"""``vpolicy describe``."""

from __future__ import annotations

from typing import Annotated

import typer

from videopolicy.cli import completing
from videopolicy.console.text import say


def describe(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A component, a kind, or a Python file with components.",
            show_default=False,
            autocompletion=completing.described,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Describe every installed component.")] = False,
) -> None:
    """Say what a component is and list its options; without a name, the kinds of components. Markdown."""
    from videopolicy.components.plugins import file_plugin
    from videopolicy.components.registry import current_registry
    from videopolicy.describing.pages import component_page, kinds_page, page
    from videopolicy.paths import expanded

    registry = current_registry()
    if every:
        say("\n".join(component_page(entry, registry) for entry in registry.entries()), end="")
    elif name is None:
        say(kinds_page(registry), end="")
    elif expanded(name).suffix == ".py":
        plugin = file_plugin(expanded(name))
        whole = registry.extended([plugin])
        own = [entry for entry in whole.entries() if entry.plugin is plugin]
        say("\n".join(component_page(entry, whole) for entry in own), end="")
    else:
        say(page(name, registry), end="")
