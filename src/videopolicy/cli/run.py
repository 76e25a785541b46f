"""``vpolicy run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopolicy.cli import completing, scaling
from videopolicy.console.text import say


def run(
    recipe: completing.RecipeArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Values to change, such as seed=1 train.video.steps=100.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe, print it as resolved, and stop.")
    ] = False,
    executor: scaling.ExecutorOption = scaling.ExecutorName.local,
    shards: scaling.ShardsOption = None,
    address: scaling.AddressOption = None,
    gpus_per_unit: scaling.GpusOption = 0.0,
    partition: scaling.PartitionOption = None,
    hours: scaling.HoursOption = 24.0,
) -> None:
    """Do what a recipe says, and nothing that was done before: data, training, evaluation, report."""
    from videopolicy.recipes.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        import yaml

        say(yaml.safe_dump(loaded.model_dump(mode="json"), sort_keys=False, width=100), end="")
        return
    from videopolicy.cli.show import show
    from videopolicy.console.progress import Reporter
    from videopolicy.executors.choosing import executor_from
    from videopolicy.running import run as run_recipe
    from videopolicy.training.distributed import rank

    engine = executor_from(executor.value, shards, address, gpus_per_unit, partition, hours)
    folder = run_recipe(loaded, runs, Reporter(quiet or rank() > 0), executor=engine)
    if not quiet and rank() == 0:
        show(folder, trust=True)  # its files have just been run
