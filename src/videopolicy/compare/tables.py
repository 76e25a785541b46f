"""A comparison in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from videopolicy.compare.grid import By, Section, left_out_tables, sections
from videopolicy.compare.model import Comparison
from videopolicy.console.terminal import Terminal

_CELL = 16
"""Columns that a rate with its interval takes, with what parts it from the next."""
_LONG_NAME = 32
"""Names of rows up to this length are not broken."""


def comparison_tables(comparison: Comparison, by: By, console: Terminal) -> RenderableType:
    """All tables one below the other; methods that do not fit beside each other continue below.

    Args:
        comparison: What was computed.
        by: Rows of the second table.
        console: For its width.
    """
    names = max((len(name) for name in comparison.tasks), default=0)
    fitting = max(2, (console.width - min(names, 30)) // _CELL)
    parts: list[RenderableType] = []
    if comparison.fingerprint:
        parts.append(Text(f"{comparison.benchmark}, protocol {comparison.fingerprint}", "bold"))
    for section in sections(comparison, by, fitting):
        parts += [Text(), section_table(section)]
    left_out = left_out_tables(comparison)
    if left_out:
        parts.append(Text(f"Papers have {' and '.join(left_out)}: --format json, csv or html.", "dim"))
    if not comparison.entries:
        parts.append(
            Text(f"\nNothing on {comparison.benchmark} was measured here yet: vpolicy run RECIPE makes a run.")
        )
    parts += [Text(f"! {warning}", "yellow") for warning in comparison.warnings]
    return Group(*parts)


def section_table(section: Section) -> RenderableType:
    """One table with its title above and its notes below."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for index, name in enumerate(section.header):
        numbers = index > 0 and _short(section, index)
        whole = index == 0 and max((len(row[0]) for row in section.rows), default=0) <= _LONG_NAME
        table.add_column(Text(name), justify="right" if numbers else "left", overflow="fold", no_wrap=whole)
    for number, row in enumerate(section.rows, start=1):
        last = number == len(section.rows) and row[0] == "mean"
        if last:
            table.add_section()
        table.add_row(*map(Text, row), style="bold" if last else None)
    return Group(Text(section.title, "bold"), table, *(Text(note, "dim") for note in section.notes))


def _short(section: Section, index: int) -> bool:
    """Whether a column holds numbers and not sentences."""
    return all(len(row[index]) <= _CELL for row in section.rows)
