"""``vpolicy report``: render the page of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopolicy.console.text import say


def report(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/quickstart.")],
    trust: Annotated[bool, typer.Option("--trust", help="Run the Python files that its recipe names.")] = False,
) -> None:
    """Write report.html of a run again, from what its folder holds. No code that it names is run without --trust."""
    from videopolicy.report.page import write_report

    say(write_report(run, trust=trust))
