"""``vpolicy --version``."""

from __future__ import annotations

from typing import Annotated

import typer

from videopolicy.console.text import say


def _say_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    say(f"vpolicy {version('videopolicy')}")
    raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Hold the options of ``vpolicy`` itself."""
