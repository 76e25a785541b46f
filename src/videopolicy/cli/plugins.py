"""``vpolicy plugins``."""

from __future__ import annotations


def plugins() -> None:
    """List the installed components, and plugins that could not be loaded."""
    from rich.table import Table

    from videopolicy.components.registry import current_registry
    from videopolicy.console.terminal import Terminal

    registry = current_registry()
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "name", "from", "what it is"):
        table.add_column(column, overflow="fold", no_wrap=column != "what it is")
    for entry in registry.entries():
        summary = (entry.component.__doc__ or "").strip().splitlines()
        table.add_row(
            entry.component.kind, entry.component.name(), entry.plugin.distribution, summary[0] if summary else ""
        )
    console = Terminal()
    console.print(table)
    for plugin in registry.plugins:
        if plugin.trouble:
            console.print(plugin.trouble)
