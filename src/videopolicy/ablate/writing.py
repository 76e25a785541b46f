"""Writes the table of an ablation in the format that was asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from videopolicy.ablate.grid import cells, notes
from videopolicy.ablate.outcome import Outcome
from videopolicy.compare import Format
from videopolicy.compare.formats import csv_table, deliver, latex_table, markdown_table, markdown_text
from videopolicy.compare.model import Comparison
from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.console.progress import Reporter
from videopolicy.console.terminal import Terminal
from videopolicy.console.text import say
from videopolicy.errors import VpolicyError


def write(
    outcome: Outcome,
    comparisons: Sequence[Comparison],
    form: Format,
    output: Path | None,
    reporter: Reporter,
    benchmark: BenchmarkComponent | None = None,
) -> None:
    """Write the table to the terminal or a file.

    Args:
        outcome: The table.
        comparisons: Of its rows, for the page.
        form: The format. ``html`` is the page of a comparison of the rows, with films.
        output: The file; None for the terminal (``html`` needs a file, by default one beside the runs).
        reporter: Shows progress while films are made.
        benchmark: Of the rows; by default their run folders are asked for it.

    Raises:
        VpolicyError: There is no page, since nothing was run or the rows are under several protocols.
        StorageError: The file cannot be written.
    """
    if form == "html":
        if len(comparisons) != 1:
            why = "no row has run" if not comparisons else "the rows are under several protocols"
            raise VpolicyError(f"There is no page to write: {why}.", "Choose another --format.")
        from videopolicy.compare.page.filmed import write_filmed_page

        path = output or outcome.rows[0].run.parent / f"{outcome.title.replace(' ', '-')}.html"
        say(write_filmed_page(comparisons[0], path, reporter, benchmark=benchmark))
        return
    if form == "table" and output is None:
        from videopolicy.ablate.tables import outcome_table

        Terminal().print(outcome_table(outcome))
        return
    deliver(_text(outcome, form), output)


def _text(outcome: Outcome, form: Format) -> str:
    header, rows = cells(outcome)
    if form == "json":
        return json.dumps(asdict(outcome), indent=2, default=str) + "\n"
    if form == "csv":
        lines: list[Sequence[Any]] = [
            ["row", "run", "metric", "paper", "measured", "ours", "low", "high", "n", "errors", "verdict"]
        ]
        for row in outcome.rows:
            low, high = row.interval or ("", "")
            numbers = [_plain(row.paper), outcome.measured, _plain(row.ours), low, high, row.episodes, row.errors]
            lines.append([row.name, row.run, outcome.metric, *numbers, row.verdict])
        return csv_table(lines)
    if form == "table":
        from videopolicy.ablate.tables import outcome_table

        file = io.StringIO()
        Terminal(file=file, width=100).print(outcome_table(outcome))
        return file.getvalue()
    if form == "latex":
        return latex_table(header, rows, caption=outcome.source, notes=notes(outcome))
    said = [f"- {markdown_text(note)}" for note in notes(outcome)]
    return "\n".join([f"**{markdown_text(outcome.source)}**", "", markdown_table(header, rows), "", *said]) + "\n"


def _plain(value: float | None) -> float | str:
    return "" if value is None else value
