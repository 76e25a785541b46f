"""What an ablation would do: which stages its rows share, and what is still to be paid for."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from videopolicy.bench.learning import StageSize, stage_sizes
from videopolicy.compare.runs import find_runs
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Dataset
from videopolicy.data.own import open_data_of
from videopolicy.data.preparation import open_data
from videopolicy.errors import DataError
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.recipes.ablation import Variant
from videopolicy.recipes.recipe import Recipe, Stage
from videopolicy.storage.identity import digest
from videopolicy.storage.provenance import StageFacts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.training.planning import plan

_WEIGHT_BYTES = 4
_MOMENTS = 2
"""AdamW keeps two numbers for every weight that it moves, in the checkpoint too."""


@dataclass(frozen=True)
class StagePlan:
    """One stage, which several rows may share.

    Args:
        key: Identifies what it ends with.
        stage: Its name in the recipes.
        target: What it trains.
        steps: Optimiser steps.
        parameters: Of what it trains.
        rows: Names of the rows that need it.
        finished: Whether it was trained earlier.
        seconds: Estimate by the clock, from finished stages of the same size on this machine; None where there are
            none to judge by.
        bytes: What it leaves on disk: weights, and a checkpoint with the optimiser's state.
    """

    key: str
    stage: str
    target: str
    steps: int
    parameters: int
    rows: tuple[str, ...]
    finished: bool
    seconds: float | None
    bytes: int


@dataclass(frozen=True)
class RowPlan:
    """One row.

    Args:
        name: As the paper calls it.
        run: Its run folder.
        keys: Its stages.
        episodes: Evaluation episodes, of all its policies.
        missing: Those that are not recorded yet.
        seconds: Estimate for the missing ones, from earlier runs on the benchmark in the same folder; None without any.
    """

    name: str
    run: Path
    keys: tuple[str, ...]
    episodes: int
    missing: int
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """Everything, each stage once.

    Args:
        stages: In the order in which they are first needed.
        rows: In the paper's order.
        uncollected: Whether demonstrations have to be collected first: keys are then provisional.
    """

    stages: tuple[StagePlan, ...]
    rows: tuple[RowPlan, ...]
    uncollected: bool


class _Uncollected:
    """Stands for data that are not there yet: rows with the same request would share them.

    Args:
        recipe: Whose data they are.
        stage: That has them to itself; None: the recipe's own.
    """

    def __init__(self, recipe: Recipe, stage: Stage | None = None) -> None:
        benchmark = recipe.benchmark.demonstrating()
        wanted = [recipe.data.model_dump(mode="json")] if recipe.data else []
        if stage is not None:
            wanted.append(stage.model_dump(mode="json", include={"data"}))
        self._of = digest([*wanted, benchmark.model_dump(mode="json")])

    def fingerprint(self, actions: bool = True) -> str:
        return f"{self._of} {actions}"

    def files(self) -> tuple[Path, ...]:
        return ()


def make_plan(variants: Sequence[Variant], runs: Path, store: Store, reporter: Reporter) -> Plan:
    """Plan without doing anything; the learners are built from shapes alone.

    Args:
        variants: The rows.
        runs: Folder of run folders.
        store: Where finished stages lie.
        reporter: Shows progress, where data take long to open.
    """
    rates = _rates(store)
    paces = _paces(runs)
    stages: dict[str, StagePlan] = {}
    rows = []
    uncollected = False
    for variant in variants:
        recipe = variant.recipe
        dataset = _dataset(recipe, store, reporter)
        uncollected |= isinstance(dataset, _Uncollected)
        own = {stage.name: _own(stage, recipe, dataset, store, reporter) for stage in recipe.train if stage.data}
        uncollected |= any(isinstance(one, _Uncollected) for one in own.values())
        planned = plan(recipe, dataset, store, own)  # type: ignore[arg-type]
        for one, size in zip(planned, stage_sizes(recipe), strict=True):
            known = stages.get(one.key)
            stages[one.key] = StagePlan(
                one.key,
                one.stage.name,
                one.stage.target,
                one.stage.steps,
                size.total,
                (*(known.rows if known else ()), variant.row.name),
                one.facts is not None,
                _seconds(size, rates),
                _bytes(size),
            )
        rows.append(_row(variant, runs, tuple(one.key for one in planned), paces.get(recipe.benchmark.type)))
    return Plan(tuple(stages.values()), tuple(rows), uncollected)


def _dataset(recipe: Recipe, store: Store, reporter: Reporter) -> Dataset | _Uncollected | None:
    if recipe.data is None:
        return None
    try:
        return open_data(recipe, store, reporter) or _Uncollected(recipe)
    except DataError:  # data that the user has yet to download
        return _Uncollected(recipe)


def _own(
    stage: Stage, recipe: Recipe, dataset: Dataset | _Uncollected | None, store: Store, reporter: Reporter
) -> Dataset | _Uncollected:
    whole = None if isinstance(dataset, _Uncollected) else dataset
    try:
        return open_data_of(stage, recipe, whole, store, reporter)
    except DataError:
        return _Uncollected(recipe, stage)


def _rates(store: Store) -> dict[tuple[str, int, int], list[float]]:
    """Seconds a step of finished stages, by target and numbers of parameters."""
    found: dict[tuple[str, int, int], list[float]] = {}
    for marker in store.root.glob("stages/*/done.json"):
        try:
            facts = StageFacts.model_validate_json(marker.read_bytes())
        except ValidationError:
            continue
        if facts.steps and facts.seconds and facts.parameters and facts.trainable_parameters is not None:
            size = (facts.target, facts.parameters, facts.trainable_parameters)
            found.setdefault(size, []).append(facts.seconds / facts.steps)
    return found


def _seconds(size: StageSize, rates: dict[tuple[str, int, int], list[float]]) -> float | None:
    known = rates.get((size.stage.target, size.total, size.trainable))
    return statistics.median(known) * size.stage.steps if known else None


def _bytes(size: StageSize) -> int:
    if not size.stage.steps:
        return 0
    averages = 1 if size.stage.ema_decay is not None else 0
    return _WEIGHT_BYTES * (2 * size.total + (_MOMENTS + averages) * size.trainable)


def _paces(runs: Path) -> dict[str, float]:
    """Seconds an episode of earlier evaluations in this folder, all workers together, by benchmark."""
    found: dict[str, list[float]] = {}
    for run in find_runs([runs]) if runs.is_dir() else []:
        evaluation = run.provenance.evaluation if run.provenance else None
        if evaluation is None or not evaluation.seconds:
            continue
        count = sum(record.policy in evaluation.seconds_per_chunk for record in run.records)
        if count:
            found.setdefault(run.benchmark, []).append(evaluation.seconds / count)
    return {benchmark: statistics.median(paces) for benchmark, paces in found.items()}


def _row(variant: Variant, runs: Path, keys: tuple[str, ...], pace: float | None) -> RowPlan:
    recipe = variant.recipe
    folder = runs / recipe.name
    tasks = [task.name for task in recipe.benchmark.tasks()]
    wanted = {
        (policy, task, episode)
        for policy in ("trained", *recipe.eval.baselines)
        for task in tasks
        for episode in range(recipe.eval.episodes)
    }
    missing = len(wanted - EpisodeLog(RunFolder(folder).episodes_file).finished)
    return RowPlan(variant.row.name, folder, keys, len(wanted), missing, None if pace is None else pace * missing)
