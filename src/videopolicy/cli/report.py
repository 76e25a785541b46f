"""``vpolicy report``: render the page of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopolicy.console.text import say


def report(run: Annotated[Path, typer.Argument(help="Run folder, such as runs/quickstart.")]) -> None:
    """Write report.html of a run again, from what its folder holds."""
    from videopolicy.report.page import write_report

    say(write_report(run))
