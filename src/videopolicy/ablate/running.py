"""Runs what an ablation lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from videopolicy.console.progress import Reporter
from videopolicy.data.missing import ensure_nothing_missing
from videopolicy.errors import VpolicyError
from videopolicy.executors.engine import Executor
from videopolicy.recipes.ablation import Variant
from videopolicy.running import run
from videopolicy.storage.store import Store


def run_rows(
    variants: Sequence[Variant], runs: Path, store: Store, executor: Executor, reporter: Reporter
) -> dict[str, VpolicyError]:
    """Run the rows one after the other; a row that fails does not keep the others from running.

    An engine that does several things at a time trains the stages of all rows first.

    Args:
        variants: The rows.
        runs: Folder of run folders.
        store: Where stages lie.
        executor: The engine.
        reporter: Shows progress.

    Returns:
        What went wrong, by row.
    """
    failed: dict[str, VpolicyError] = {}
    for variant in variants:  # before the first of them takes hours
        try:
            ensure_nothing_missing(variant.recipe, store)
        except VpolicyError as error:
            reporter.line(f"row {variant.row.name} failed: {error.message}")
            failed[variant.row.name] = error
    variants = [variant for variant in variants if variant.row.name not in failed]
    try:
        executor.train_ahead([variant.recipe for variant in variants], store, reporter)
    except VpolicyError as error:  # said again by the row that lacks the stage
        reporter.line(error.message.splitlines()[0])
    for number, variant in enumerate(variants, start=1):
        reporter.line(f"row {number} of {len(variants)}: {variant.row.name} ({runs / variant.recipe.name})")
        try:
            run(variant.recipe, runs, reporter, store, executor=executor)
        except VpolicyError as error:
            reporter.line(f"row {variant.row.name} failed: {error.message.splitlines()[0]}")
            failed[variant.row.name] = error
    return failed
