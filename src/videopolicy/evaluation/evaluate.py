"""Evaluates a trained policy next to its baselines."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from videopolicy.console.progress import Reporter, duration
from videopolicy.contracts.policy import Policy
from videopolicy.evaluation.acting import Actor, PolicyActor, RandomActor
from videopolicy.evaluation.rollout import Rollout
from videopolicy.recipes.recipe import Recipe
from videopolicy.results.records import EpisodeLog, summarise
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.identity import digest, protocol_of
from videopolicy.training.checkpoints import load_normalizer
from videopolicy.training.stages import PlannedStage, build_learner, load_policy


def device_for_acting() -> torch.device:
    """The accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def evaluate(
    recipe: Recipe, planned: list[PlannedStage], folder: Path, python: Path, device: torch.device, reporter: Reporter
) -> dict[str, Any]:
    """Run all episodes that are missing, of the trained policy and of the recipe's baselines.

    Args:
        recipe: The recipe.
        planned: Its trained stages.
        folder: The run folder; gets ``episodes.jsonl``, ``trajectories`` and the workers' logs.
        python: Interpreter of the simulator.
        device: Where policies run.
        reporter: Shows progress.

    Returns:
        Seconds, episodes, workers, batch size and seconds a chunk by policy; empty when nothing was missing.
    """
    log = EpisodeLog(folder / "episodes.jsonl")
    tasks = recipe.benchmark.tasks()
    policies = ("trained", *recipe.eval.baselines)
    wanted = {(policy, task.name, e) for policy in policies for task in tasks for e in range(recipe.eval.episodes)}
    if wanted <= log.done:
        reporter.line(f"evaluate: done earlier ({len(wanted)} episodes)")
        return {}
    started = time.monotonic()
    chunk_seconds: dict[str, list[float]] = {}
    with simulators(recipe, python, folder / "logs") as pool:
        for name in policies:
            if {one for one in wanted if one[0] == name} <= log.done:
                continue
            rollout = make_rollout(name, recipe, planned, pool, log, folder / "trajectories", device, reporter)
            rollout.run(tasks)
            chunk_seconds[name] = rollout.chunk_seconds
            report_success(name, recipe, log, reporter)
    return facts_of(recipe, time.monotonic() - started, chunk_seconds, reporter)


@contextmanager
def simulators(recipe: Recipe, python: Path, logs: Path) -> Iterator[WorkerPool]:
    """The simulators of an evaluation.

    Raises:
        SimulationError: They cannot start at all, which is one error and not one for every episode.
    """
    spaces = recipe.benchmark.spaces()
    with WorkerPool(recipe.benchmark.launch(), python, recipe.eval.workers, logs, spaces) as pool:
        pool.start()
        pool.call(0, "hello")
        yield pool


def make_rollout(
    policy: str,
    recipe: Recipe,
    planned: list[PlannedStage],
    pool: WorkerPool,
    log: EpisodeLog,
    trajectories: Path,
    device: torch.device,
    reporter: Reporter,
) -> Rollout:
    """What runs the episodes of one row of the table.

    Args:
        policy: ``trained`` or a baseline.
        recipe: The recipe.
        planned: Its trained stages.
        pool: Simulators.
        log: Where records go.
        trajectories: Gets the executed actions of the trained policy.
        device: Where the policy runs.
        reporter: Shows progress.
    """
    return Rollout(
        _actor(policy, recipe, planned, device),
        policy,
        recipe.policy.window(),
        recipe.benchmark.spaces().actions.dim,
        recipe.eval,
        pool,
        log,
        digest(protocol_of(recipe.benchmark)),
        recipe.seed,
        reporter,
        trajectories if policy == "trained" else None,
    )


def report_success(policy: str, recipe: Recipe, log: EpisodeLog, reporter: Reporter) -> None:
    """Say how a finished row has done."""
    mean = summarise(log.read(), recipe.benchmark)[policy].mean
    low, high = mean.interval
    reporter.line(
        f"evaluate {policy}: success {mean.value:.2f} (95% interval {low:.2f} to {high:.2f}, "
        f"n = {mean.episodes}, {mean.errors} errors)"
        if mean.value is not None
        else f"evaluate {policy}: all {mean.errors} episodes ended in errors"
    )


def facts_of(
    recipe: Recipe, seconds: float, chunk_seconds: dict[str, list[float]], reporter: Reporter
) -> dict[str, Any]:
    """What is recorded of an evaluation that took so many seconds."""
    reporter.line(f"evaluate: {duration(seconds)}")
    return {
        "seconds": seconds,
        "episodes": recipe.eval.episodes,
        "workers": recipe.eval.workers,
        "batch_size": recipe.eval.batch_size,
        "seconds_per_chunk": {policy: quantiles(values) for policy, values in chunk_seconds.items()},
    }


def _actor(name: str, recipe: Recipe, planned: list[PlannedStage], device: torch.device) -> Actor:
    spaces = recipe.benchmark.spaces()
    if name == "random":
        return RandomActor(spaces.actions, recipe.eval.execute)
    if name == "untrained":
        policy, normalizer = (
            cast(Policy, build_learner(recipe, "policy", recipe.seed)),
            load_normalizer(planned[-1].folder),
        )
    else:
        policy, normalizer = load_policy(recipe, planned)
    return PolicyActor(policy, normalizer, spaces.actions, device)


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile of wall times in seconds."""
    if len(seconds) < 2:
        return {"median": seconds[0], "p95": seconds[0]} if seconds else {}
    return {"median": statistics.median(seconds), "p95": statistics.quantiles(seconds, n=20)[-1]}
