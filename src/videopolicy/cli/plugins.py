"""``vpolicy plugins``."""

from __future__ import annotations


def plugins() -> None:
    """List the installed components, and plugins that could not be loaded."""
    from rich.table import Table

    from videopolicy.components.registry import current_registry
    from videopolicy.console.terminal import Terminal

    registry = current_registry()
    table = Table(box=None, pad_edge=False)
    for column in ("name", "kind", "from"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for entry in registry.entries():
        table.add_row(entry.component.name(), entry.component.kind, entry.plugin.distribution)
    console = Terminal()
    console.print(table)
    for plugin in registry.plugins:
        if plugin.trouble:
            console.print(plugin.trouble)
    console.print("`vpolicy describe NAME` says what one is and lists its options.")
