"""``vpolicy run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe file.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Values to change, such as seed=1 train.video.steps=100.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe, print it as resolved, and stop.")
    ] = False,
) -> None:
    """Do what a recipe says, and nothing that was done before: data, training, evaluation, report."""
    from videopolicy.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        import yaml

        print(yaml.safe_dump(loaded.model_dump(mode="json"), sort_keys=False, width=100), end="")
        return
    from videopolicy.cli.show import show
    from videopolicy.progress import Reporter
    from videopolicy.run import run as run_recipe

    folder = run_recipe(loaded, runs, Reporter(quiet))
    if not quiet:
        show(folder)
