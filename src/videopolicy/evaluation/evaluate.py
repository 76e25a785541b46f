"""Evaluates a trained policy next to its baselines."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from videopolicy.console.progress import Reporter, duration
from videopolicy.contracts.policy import Policy
from videopolicy.evaluation.acting import Actor, PolicyActor, RandomActor, ensure_ways_to_act
from videopolicy.evaluation.identity import claim_simulator, fingerprint
from videopolicy.evaluation.rollout import Rollout, stopped
from videopolicy.evaluation.usage import Usage
from videopolicy.outcomes.records import EpisodeLog, summarise
from videopolicy.recipes.recipe import Recipe
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.provenance import ChunkSeconds, EvaluationFacts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.training.planning import PlannedStage
from videopolicy.training.session import Session
from videopolicy.training.stages import build_learner, load_policy, scaling_after

RANDOM_STEPS = 64
"""Of the random baseline, executed between two pictures that nobody looks at."""


def evaluate(session: Session, planned: list[PlannedStage], folder: RunFolder, python: Path) -> EvaluationFacts | None:
    """Run all episodes that are missing, of the trained policy and of the recipe's baselines.

    Args:
        session: The recipe; policies run on its device.
        planned: Its trained stages.
        folder: Of the run; gets episodes, trajectories and the workers' logs.
        python: Interpreter of the simulator.

    Returns:
        What it took; None when nothing was missing.

    Raises:
        EvaluationStoppedError: Simulators fail one after the other. What was finished is kept.
        SimulationError: The simulator is not the one of the episodes that are there.
    """
    recipe, reporter = session.recipe, session.reporter
    log = EpisodeLog(folder.episodes_file)
    tasks = recipe.benchmark.tasks()
    policies = ("trained", *recipe.eval.baselines)
    wanted = {(policy, task.name, e) for policy in policies for task in tasks for e in range(recipe.eval.episodes)}
    if wanted <= log.finished:
        reporter.line(f"evaluate: done earlier ({len(wanted)} episodes)")
        return None
    started = time.monotonic()
    chunk_seconds: dict[str, list[float]] = {}
    usage = Usage()
    with simulators(recipe, python, folder.logs) as pool:
        claim_simulator(folder, recipe, pool.simulator)
        for name in policies:
            if {one for one in wanted if one[0] == name} <= log.finished:
                continue
            rollout = make_rollout(name, session, planned, pool, folder)
            rollout.run(tasks)
            chunk_seconds[name] = rollout.chunk_seconds
            usage += rollout.usage
            report_success(name, recipe, log, reporter)
    return facts_of(session, time.monotonic() - started, chunk_seconds, usage)


@contextmanager
def simulators(recipe: Recipe, python: Path, logs: Path) -> Iterator[WorkerPool]:
    """The simulators of an evaluation.

    Raises:
        SimulationError: They cannot start at all, which is one error and not one for every episode.
    """
    spaces = recipe.benchmark.spaces()
    with WorkerPool(recipe.benchmark.launch(), python, recipe.eval.workers, logs, spaces) as pool:
        pool.ensure_started()
        yield pool


def make_rollout(
    policy: str, session: Session, planned: list[PlannedStage], pool: WorkerPool, folder: RunFolder
) -> Rollout:
    """What runs the episodes of one row of the table.

    Args:
        policy: ``trained`` or a baseline.
        session: The recipe; the policy runs on its device.
        planned: Its trained stages.
        pool: Simulators.
        folder: Gets the records, and the executed actions of the trained policy.
    """
    recipe = session.recipe
    settings = recipe.eval
    if policy == "random":
        settings = settings.model_copy(update={"execute": settings.execute * _random_chunks(recipe)})
    return Rollout(
        _actor(policy, session, planned),
        policy,
        recipe.policy.window(),
        recipe.benchmark.spaces().actions.dim,
        settings,
        pool,
        EpisodeLog(folder.episodes_file),
        fingerprint(recipe.benchmark, pool.simulator),
        recipe.seed,
        session.reporter,
        folder if policy == "trained" else None,
    )


def report_success(policy: str, recipe: Recipe, log: EpisodeLog, reporter: Reporter) -> None:
    """Say how a finished row has done.

    Raises:
        EvaluationStoppedError: None of its episodes has been finished, so that nothing is known.
    """
    records = log.read()
    mean = summarise(records, recipe.benchmark)[policy].mean
    if mean.value is None:
        errors = [record.error for record in records if record.policy == policy and record.error is not None]
        raise stopped(f"all {mean.errors} episodes", policy, errors[-1])
    low, high = mean.interval
    again = "; the same command tries them again" if mean.errors else ""
    reporter.line(
        f"evaluate {policy}: success {mean.value:.2f} (95% interval {low:.2f} to {high:.2f}, "
        f"n = {mean.episodes}, {mean.errors} errors{again})"
    )


def facts_of(session: Session, seconds: float, chunk_seconds: dict[str, list[float]], usage: Usage) -> EvaluationFacts:
    """What is recorded of an evaluation that took so many seconds; the terminal shows where they went."""
    spent = ""
    if usage.steps_per_second is not None and usage.shares is not None:
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in usage.shares.model_dump().items())
        spent = f"; {usage.steps_per_second:.3g} steps a second, of the workers' time: {shares}"
    session.reporter.line(f"evaluate: {duration(seconds)}{spent}")
    settings = session.recipe.eval
    return EvaluationFacts(
        seconds=seconds,
        episodes=settings.episodes,
        workers=settings.workers,
        batch_size=settings.batch_size,
        precision=settings.precision,
        compile=settings.compile,
        graphs=settings.graphs,
        seconds_per_chunk={policy: quantiles(values) for policy, values in chunk_seconds.items()},
        steps_per_second=usage.steps_per_second,
        shares=usage.shares,
    )


def _actor(name: str, session: Session, planned: list[PlannedStage]) -> Actor:
    recipe = session.recipe
    spaces = recipe.benchmark.spaces()
    if name == "random":
        return RandomActor(spaces.actions, recipe.eval.execute, _random_chunks(recipe))
    if name == "untrained":
        policy = cast(Policy, build_learner(recipe, "policy", recipe.seed))
        normalizer = scaling_after(planned)
    else:
        policy, normalizer = load_policy(recipe, planned)
    settings = recipe.eval
    ensure_ways_to_act(settings, session.device)
    return PolicyActor(
        policy, normalizer, spaces.actions, session.device, settings.precision, settings.compile, settings.graphs
    )


def _random_chunks(recipe: Recipe) -> int:
    """How many chunks of random actions are drawn and executed at once."""
    return max(1, RANDOM_STEPS // recipe.eval.execute)


def quantiles(seconds: list[float]) -> ChunkSeconds:
    """Median and 95th percentile of wall times in seconds."""
    if not seconds:
        return ChunkSeconds()
    if len(seconds) == 1:
        return ChunkSeconds(median=seconds[0], p95=seconds[0])
    return ChunkSeconds(median=statistics.median(seconds), p95=statistics.quantiles(seconds, n=20)[-1])
