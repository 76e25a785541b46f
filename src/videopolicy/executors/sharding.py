"""An evaluation cut into units, and put together again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

from videopolicy.errors import EvaluationStoppedError, SimulationError
from videopolicy.evaluation.evaluate import facts_of, report_success
from videopolicy.evaluation.identity import claim_simulator, run_identity
from videopolicy.evaluation.usage import Usage
from videopolicy.executors.sender import Sender
from videopolicy.executors.units import EvaluationUnit, Shard, Workplace, recipe_text
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord
from videopolicy.storage.files import written_whole
from videopolicy.storage.identity import code_behind, digest
from videopolicy.storage.provenance import EvaluationFacts, SimulatorFacts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.training.planning import PlannedStage
from videopolicy.training.session import Session


def evaluate_in_units(
    sender: Sender, session: Session, planned: list[PlannedStage], folder: RunFolder
) -> EvaluationFacts | None:
    """Run all missing episodes on an engine; `videopolicy.evaluation.evaluate.evaluate` does it in this process.

    The records are the same, up to wall times: an episode's noise and its row in the batch follow from its number.

    Args:
        sender: The engine.
        session: The recipe, and the store that all nodes share.
        planned: Its trained stages.
        folder: Of the run.

    Returns:
        As `videopolicy.evaluation.evaluate.evaluate`.

    Raises:
        ExecutionError: Units have failed for good; the episodes of all others are in the log.
        SimulationError: Nodes differ in their simulators' versions or renderers. The episodes of those that are like
            the first to end are in the log.
        EvaluationStoppedError: Some have stopped on the way, because their simulators failed one after the other.
    """
    recipe, reporter = session.recipe, session.reporter
    log = EpisodeLog(folder.episodes_file)
    done = log.finished
    identity = folder.identity() if done else None
    units = list(_units(sender.shards, session, planned, done, identity.simulator if identity else None))
    total = len(("trained", *recipe.eval.baselines)) * len(recipe.benchmark.tasks()) * recipe.eval.episodes
    if not units:
        reporter.line(f"evaluate: done earlier ({total} episodes)")
        return None
    started = time.monotonic()
    chunk_seconds: dict[str, list[float]] = {unit.policy: [] for unit in units}
    missing = sum(len(unit.episodes) for unit in units)
    solved = 0
    usage = Usage()
    stopped: EvaluationStoppedError | SimulationError | None = None
    reporter.line(f"evaluate: {missing} episodes in {len(units)} units ({sender.name})")
    with reporter.activity("evaluate", total, total - missing) as progress:
        for outcome in sender.succeeded(units, folder.logs / "units", reporter):
            unit, shard = outcome.unit, outcome.value
            assert isinstance(unit, EvaluationUnit) and isinstance(shard, Shard)
            try:
                claim_simulator(folder, recipe, shard.simulator)
            except SimulationError as error:
                reporter.line(f"{unit.title}: left out, see below")
                stopped = error
                continue
            for name, content in shard.trajectories.items():
                with written_whole(folder.trajectories / unit.policy / name) as part:
                    part.write_bytes(content)
            for record in (EpisodeRecord(**fields) for fields in shard.records):
                if record.key not in done:
                    log.append(record)
                    solved += record.success
                    if record.error is None:
                        done.add(record.key)
            stopped = stopped or shard.stopped
            chunk_seconds[unit.policy] += shard.chunk_seconds
            usage += shard.usage
            progress.advance(len(shard.records), f"{solved} solved")
    if stopped is not None:
        raise stopped
    for policy in chunk_seconds:
        report_success(policy, recipe, log, reporter)
    seconds = time.monotonic() - started
    facts = facts_of(session, seconds, chunk_seconds, replace(usage, clock=seconds))
    return facts.model_copy(update={"executor": sender.name})


def _units(
    shards: int,
    session: Session,
    planned: list[PlannedStage],
    done: set[tuple[str, str, int]],
    simulator: SimulatorFacts | None,
) -> Iterator[EvaluationUnit]:
    """One unit for every range of episodes of a policy on a task that has missing ones.

    Ranges are multiples of the batch size where there is more than one: a smaller one would leave rows empty.
    """
    recipe = session.recipe
    policies = ("trained", *recipe.eval.baselines)
    tasks, episodes, batch = recipe.benchmark.tasks(), recipe.eval.episodes, recipe.eval.batch_size
    ranges = max(1, math.ceil(shards / (len(policies) * len(tasks))))
    length = math.ceil(episodes / ranges)
    if length > batch:
        length = length // batch * batch
    workplace, text = Workplace.here(session.store), recipe_text(recipe)
    keys, code = tuple(one.key for one in planned), code_behind(recipe.components(), recipe.registry)
    run_id = digest(run_identity(recipe, keys).model_dump(mode="json"))
    for policy in policies:
        for task in tasks:
            for first in range(0, episodes, length):
                last = min(first + length, episodes)
                missing = tuple(e for e in range(first, last) if (policy, task.name, e) not in done)
                if missing:
                    yield EvaluationUnit(
                        workplace, text, run_id, keys, policy, task.name, first, last, missing, code, simulator
                    )
