"""``vpolicy export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopolicy.console.text import say


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the policy.", show_default=False)] = ...,  # type: ignore[assignment]
    trust: Annotated[bool, typer.Option("--trust", help="Run the Python files that its recipe names.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in the folder.")] = False,
) -> None:
    """Write a run's trained policy into one folder that needs neither data nor store."""
    from videopolicy.deployment.exporting import export as written

    folder = written(run, output, trust=trust, force=force)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    say(f"{folder}: {size / 2**20:.1f} MiB; in Python: videopolicy.load({str(folder)!r})")
