"""``vpolicy ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopolicy.cli import completing, scaling
from videopolicy.compare import Format
from videopolicy.console.text import say


def ablate(
    file: Annotated[
        Path,
        typer.Argument(
            help="Ablation file, or the name of an ablation that comes with the package, such as ablations/NAME.",
            show_default=False,
            autocompletion=completing.recipes,
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Values to change in every row, such as eval.episodes=10.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Another recipe under the rows, such as a small one.", show_default="the file's")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show which stages the rows share, estimated time and disk, and stop.")
    ] = False,
    no_run: Annotated[bool, typer.Option("--no-run", help="Run nothing: show the table of what is there.")] = False,
    form: Annotated[Format, typer.Option("--format", help="How the table is written.")] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the table.", show_default="the terminal")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    executor: scaling.ExecutorOption = scaling.ExecutorName.local,
    shards: scaling.ShardsOption = None,
    address: scaling.AddressOption = None,
    gpus_per_unit: scaling.GpusOption = 0.0,
    partition: scaling.PartitionOption = None,
    hours: scaling.HoursOption = 24.0,
) -> None:
    """Run the rows of a paper's table that are missing, and print paper, ours, n, interval and verdict."""
    from videopolicy.console.progress import Reporter
    from videopolicy.errors import VpolicyError
    from videopolicy.recipes.ablation import load_ablation
    from videopolicy.storage.store import Store

    loaded = load_ablation(file, base, overrides or [])
    variants = loaded.variants
    store = Store()
    from videopolicy.console.terminal import Terminal

    if dry_run:
        from videopolicy.ablate.planning import make_plan
        from videopolicy.ablate.tables import plan_tables

        for part in plan_tables(make_plan(variants, runs, store, Reporter(quiet))):
            Terminal().print(part)
        for remark in loaded.left_out:
            say(remark)
        return
    failed: dict[str, VpolicyError] = {}
    if not no_run:
        from videopolicy.ablate.running import run_rows
        from videopolicy.executors.choosing import executor_from
        from videopolicy.training.distributed import ensure_launched, rank

        ensure_launched()
        engine = executor_from(executor.value, shards, address, gpus_per_unit, partition, hours)
        failed = run_rows(variants, runs, store, engine, Reporter(quiet or rank() > 0))
        if rank() > 0:  # started by Lightning to share the training
            return
    from videopolicy.ablate.outcome import measured, outcome
    from videopolicy.ablate.writing import write

    title = file.stem if base is None else f"{file.stem} on {base.stem}"
    comparison = measured(variants, runs)
    found = outcome(title, loaded, runs, comparison, base is not None)
    write(found, comparison, form, output, Reporter(quiet), variants[0].recipe.benchmark)
    if failed:
        name, error = next(iter(failed.items()))
        raise VpolicyError(
            f"{len(failed)} of {len(variants)} rows failed; '{name}': {error.message}",
            f"{error.hint} The same command goes on with what is missing.".strip(),
        )
