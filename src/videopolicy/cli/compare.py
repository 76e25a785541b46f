"""``vpolicy compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from videopolicy.compare import Format
from videopolicy.console.text import say

if TYPE_CHECKING:
    from videopolicy.compare.model import Comparison


def compare(
    benchmark: Annotated[
        str | None, typer.Option(help="Benchmark; may be left out where all runs are on one.", show_default=False)
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of run folders, or a run folder; may be repeated.", show_default="runs"),
    ] = None,
    by: Annotated[Literal["task", "tier"], typer.Option(help="Rows of the second table.")] = "task",
    policy: Annotated[
        str, typer.Option(help="Policies of every run that are shown, such as trained,untrained,random.")
    ] = "trained,random",
    protocol: Annotated[
        str | None, typer.Option(help="Beginning of the protocol's fingerprint.", show_default="that of most runs")
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="Run whose protocol and tasks are the table's.", show_default=False)
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How the tables are written.")] = "table",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write.", show_default="terminal; comparison.html for html"),
    ] = None,
    films: Annotated[
        bool, typer.Option("--films/--no-films", help="html: film episodes of all methods side by side.")
    ] = True,
    trust: Annotated[bool, typer.Option("--trust", help="Run the Python files that a run's recipe names.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Compare the runs on a benchmark, with published numbers beside them."""
    import gc

    from videopolicy.compare.comparison import compare as compute
    from videopolicy.errors import VpolicyError

    chosen = runs or [Path("runs")]
    if runs is None and not chosen[0].is_dir():
        chosen = []  # nothing was run yet: what is published can be shown all the same
    policies = [name for name in policy.split(",") if name]
    if not policies:
        raise VpolicyError("--policy names no policy.", "Write --policy trained,random.")
    # Every record lives to the end: looking for garbage among them, now or while tables are drawn, takes as long as
    # reading them.
    gc.disable()
    try:
        comparison = compute(chosen, benchmark, policies, protocol, like, trust)
    finally:
        gc.freeze()
        gc.enable()
    if form == "html":
        from videopolicy.compare.page.filmed import write_filmed_page
        from videopolicy.console.progress import Reporter

        say(write_filmed_page(comparison, output or Path("comparison.html"), Reporter(quiet), films, trust))
        return
    if form == "table" and output is None:
        from videopolicy.compare.tables import comparison_tables
        from videopolicy.console.terminal import Terminal

        console = Terminal()
        console.print(comparison_tables(comparison, by, console))
        return
    text = _text(comparison, form, by)
    from videopolicy.compare.formats import deliver

    deliver(text, output)


def _text(comparison: Comparison, form: Format, by: Literal["task", "tier"]) -> str:
    from videopolicy.compare import formats

    if form == "markdown":
        return formats.markdown(comparison, by)
    if form == "latex":
        return formats.latex(comparison, by)
    if form == "csv":
        return formats.csv_text(comparison)
    if form == "json":
        return formats.json_text(comparison)
    import io

    from videopolicy.compare.tables import comparison_tables
    from videopolicy.console.terminal import Terminal

    console = Terminal(file=io.StringIO(), width=100)
    console.print(comparison_tables(comparison, by, console))
    return console.file.getvalue()  # type: ignore[attr-defined]
