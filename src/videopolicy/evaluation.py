"""Evaluates a trained policy next to its baselines."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any, cast

import torch

from videopolicy.acting import Actor, PolicyActor, RandomActor
from videopolicy.artifacts import digest
from videopolicy.checkpoints import load_normalizer
from videopolicy.contracts.policy import Policy
from videopolicy.progress import Reporter, duration
from videopolicy.recipe import Recipe
from videopolicy.results import EpisodeLog, summarise
from videopolicy.rollout import Rollout
from videopolicy.simulation import WorkerPool
from videopolicy.stages import PlannedStage, build_learner, load_policy


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
    spaces = recipe.benchmark.spaces()
    policies = ("trained", *recipe.eval.baselines)
    wanted = {(policy, task.name, e) for policy in policies for task in tasks for e in range(recipe.eval.episodes)}
    if wanted <= log.done:
        reporter.line(f"evaluate: done earlier ({len(wanted)} episodes)")
        return {}
    started = time.monotonic()
    chunk_seconds: dict[str, Any] = {}
    with WorkerPool(recipe.benchmark.launch(), python, recipe.eval.workers, folder / "logs", spaces) as pool:
        pool.start()
        pool.call(0, "hello")  # a simulator that cannot start at all is one error, not one for every episode
        for name in policies:
            if {one for one in wanted if one[0] == name} <= log.done:
                continue
            rollout = Rollout(
                _actor(name, recipe, planned, device),
                name,
                recipe.policy.window(),
                spaces.actions.dim,
                recipe.eval,
                pool,
                log,
                digest(recipe.benchmark.protocol()),
                recipe.seed,
                reporter,
                folder / "trajectories" if name == "trained" else None,
            )
            rollout.run(tasks)
            chunk_seconds[name] = quantiles(rollout.chunk_seconds)
            mean = summarise(log.read(), recipe.benchmark)[name].mean
            low, high = mean.interval
            reporter.line(
                f"evaluate {name}: success {mean.value:.2f} (95% interval {low:.2f} to {high:.2f}, "
                f"n = {mean.episodes}, {mean.errors} errors)"
                if mean.value is not None
                else f"evaluate {name}: all {mean.errors} episodes ended in errors"
            )
    seconds = time.monotonic() - started
    reporter.line(f"evaluate: {duration(seconds)}")
    return {
        "seconds": seconds,
        "episodes": recipe.eval.episodes,
        "workers": recipe.eval.workers,
        "batch_size": recipe.eval.batch_size,
        "seconds_per_chunk": chunk_seconds,
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
