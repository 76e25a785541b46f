"""An evaluation cut into units, and put together again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videopolicy.console.progress import Reporter
from videopolicy.evaluation.evaluate import facts_of, report_success
from videopolicy.executors.engine import Executor, succeeded
from videopolicy.executors.units import EvaluationUnit, Shard, Workplace, recipe_text
from videopolicy.recipes.recipe import Recipe
from videopolicy.results.records import EpisodeLog, EpisodeRecord
from videopolicy.storage.files import storage_errors
from videopolicy.storage.identity import code_behind
from videopolicy.storage.store import Store
from videopolicy.training.stages import PlannedStage


def evaluate_in_units(
    executor: Executor,
    recipe: Recipe,
    planned: list[PlannedStage],
    folder: Path,
    run_id: str,
    store: Store,
    reporter: Reporter,
) -> dict[str, Any]:
    """Run all missing episodes on an engine; `videopolicy.evaluation.evaluate.evaluate` does it in this process.

    The records are the same, up to wall times: an episode's noise and its row in the batch follow from its number.

    Args:
        executor: The engine.
        recipe: The recipe.
        planned: Its trained stages.
        folder: The run folder.
        run_id: Identifies policy, protocol and seed.
        store: Where the trained stages lie, for all nodes.
        reporter: Shows progress.

    Returns:
        As `videopolicy.evaluation.evaluate.evaluate`.

    Raises:
        ExecutionError: Units have failed for good; the episodes of all others are in the log.
    """
    log = EpisodeLog(folder / "episodes.jsonl")
    done = log.done
    units = list(_units(executor.shards, recipe, planned, run_id, store, done))
    total = len(("trained", *recipe.eval.baselines)) * len(recipe.benchmark.tasks()) * recipe.eval.episodes
    if not units:
        reporter.line(f"evaluate: done earlier ({total} episodes)")
        return {}
    started = time.monotonic()
    chunk_seconds: dict[str, list[float]] = {unit.policy: [] for unit in units}
    missing = sum(len(unit.episodes) for unit in units)
    solved = 0
    reporter.line(f"evaluate: {missing} episodes in {len(units)} units ({executor.name})")
    with reporter.stage("evaluate", total, total - missing) as progress:
        for outcome in succeeded(executor, units, folder / "logs" / "units", reporter):
            unit, shard = outcome.unit, outcome.value
            assert isinstance(unit, EvaluationUnit) and isinstance(shard, Shard)
            _keep(shard, folder / "trajectories" / unit.policy)
            for record in (EpisodeRecord(**fields) for fields in shard.records):
                if record.key not in done:
                    log.append(record)
                    done.add(record.key)
                    solved += record.success
            chunk_seconds[unit.policy] += shard.chunk_seconds
            progress.advance(len(shard.records), f"{solved} solved")
    for policy in chunk_seconds:
        report_success(policy, recipe, log, reporter)
    return {**facts_of(recipe, time.monotonic() - started, chunk_seconds, reporter), "executor": executor.name}


def _units(
    shards: int,
    recipe: Recipe,
    planned: list[PlannedStage],
    run_id: str,
    store: Store,
    done: set[tuple[str, str, int]],
) -> Iterator[EvaluationUnit]:
    """One unit for every range of episodes of a policy on a task that has missing ones.

    Ranges are multiples of the batch size where there is more than one: a smaller one would leave rows empty.
    """
    policies = ("trained", *recipe.eval.baselines)
    tasks, episodes, batch = recipe.benchmark.tasks(), recipe.eval.episodes, recipe.eval.batch_size
    ranges = max(1, math.ceil(shards / (len(policies) * len(tasks))))
    length = math.ceil(episodes / ranges)
    if length > batch:
        length = length // batch * batch
    workplace, text = Workplace.here(store), recipe_text(recipe)
    keys, code = tuple(one.key for one in planned), code_behind(recipe.components(), recipe.registry)
    for policy in policies:
        for task in tasks:
            for first in range(0, episodes, length):
                last = min(first + length, episodes)
                missing = tuple(e for e in range(first, last) if (policy, task.name, e) not in done)
                if missing:
                    yield EvaluationUnit(workplace, text, run_id, keys, policy, task.name, first, last, missing, code)


def _keep(shard: Shard, folder: Path) -> None:
    for name, content in shard.trajectories.items():
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
