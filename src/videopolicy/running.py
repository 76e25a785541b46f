"""Does what a recipe says: environment, data, stages, evaluation, report. What is there already is not done again."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopolicy.console.monitor import MemoryMonitor
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Dataset
from videopolicy.data.missing import ensure_nothing_missing
from videopolicy.data.own import open_own
from videopolicy.data.preparation import open_data, prepare_data
from videopolicy.data.remarks import remarks_on
from videopolicy.errors import StorageError
from videopolicy.evaluation.identity import run_identity
from videopolicy.executors.engine import Executor, LocalExecutor
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.recipes.recipe import Recipe
from videopolicy.simulators.environments import check_rendering, checks_rendering, interpreter, is_ready
from videopolicy.storage import surroundings
from videopolicy.storage.files import ensure_no_link_out, file_digest, locked, written_whole
from videopolicy.storage.identity import code_behind, digest
from videopolicy.storage.provenance import Provenance, RunIdentity
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.training.distributed import ensure_processes_fit, rank, wait_for
from videopolicy.training.inputs import ensure_inputs
from videopolicy.training.tracking import ensure_trackers

if TYPE_CHECKING:
    from videopolicy.training.planning import PlannedStage
    from videopolicy.training.session import Session


def run(
    recipe: Recipe, runs: Path, reporter: Reporter, store: Store | None = None, executor: Executor | None = None
) -> Path:
    """Run a recipe to its end, or go on with it.

    Args:
        recipe: The recipe.
        runs: Folder of run folders.
        reporter: Shows progress.
        store: Where artifacts lie.
        executor: Trains the stages and runs the episodes; in this process by default.

    Returns:
        The run folder.

    Raises:
        VpolicyError: Of every kind that bad input and a failing machine can cause.
    """
    store, executor = store or Store(), executor or LocalExecutor()
    folder = RunFolder(runs / recipe.name)
    ensure_processes_fit(recipe)
    if rank() > 0:
        _join(recipe, store)
        return folder.path
    ensure_no_link_out(folder.path)
    with locked(folder.path, f"run '{recipe.name}'"), MemoryMonitor() as memory:
        _ensure_same_run(folder, run_identity(recipe))
        record = _Record(folder, recipe, memory, reporter)
        code_behind(recipe.components(), recipe.registry)  # read now: what is edited while it runs is the next run's
        local = isinstance(executor, LocalExecutor)  # elsewhere the nodes render
        evaluates = local and _evaluates(recipe, folder)
        ensure_nothing_missing(recipe, store, evaluates, reporter.line)
        ensure_trackers(recipe.tracking)
        python = _simulator(recipe, local, reporter) if recipe.eval.episodes else None
        ensure_inputs(recipe)
        # These need torch: everything that can be found wrong without it has been.
        from videopolicy.training.planning import needed, plan
        from videopolicy.training.session import Session

        session = Session.here(recipe, store, reporter)
        if evaluates:
            from videopolicy.evaluation.acting import ensure_ways_to_act

            ensure_ways_to_act(recipe.eval, session.device)
        dataset, collected = prepare_data(recipe, store, reporter) if recipe.data else (None, None)
        if collected and not (collected.reused and record.provenance.data):
            record.update(data=collected)
        own = open_own(recipe, dataset, store, reporter)
        planned = plan(recipe, dataset, store, own)
        _claim(folder, recipe, [one.key for one in planned])
        artifacts = [*needed(planned), *([store.place("datasets", collected.key)] if collected else [])]
        store.note_run(folder.path, recipe.name, [*artifacts, *([python] if python else [])])
        said = [text for one in (dataset, *own.values()) if one for text in remarks_on(one)]
        record.update(data_remarks=(*recipe.benchmark.remarks(), *said))
        for facts in executor.train(session, planned, dataset):
            if not (facts.reused and (before := record.provenance.stage(facts.name)) and before.key == facts.key):
                record.provenance = record.provenance.with_stage(facts)  # what this run has trained stays its own
            _write_curves(folder, planned)
            record.update()
        if python is not None:
            evaluated = executor.evaluate(session, planned, folder, python)
            if evaluated:
                states = _demonstrated_states(folder, dataset, reporter)
                record.update(evaluation=evaluated.model_copy(update={"episodes_from_demonstrated_states": states}))
        _picture(session, planned, dataset, folder)
        _report(record, recipe, reporter)
    return folder.path


def _evaluates(recipe: Recipe, folder: RunFolder) -> bool:
    """Whether there are episodes to run."""
    policies = 1 + len(recipe.eval.baselines)
    wanted = policies * len(recipe.benchmark.tasks()) * recipe.eval.episodes
    return len(EpisodeLog(folder.episodes_file).finished) < wanted


def _simulator(recipe: Recipe, local: bool, reporter: Reporter) -> Path:
    """The simulator's interpreter; where its environment had to be made first, it has not yet rendered."""
    spec = recipe.benchmark.launch()
    made = is_ready(spec)
    python = interpreter(spec, say=reporter.line)
    if local and not made and checks_rendering(spec):
        check_rendering(spec, python)
    return python


def _join(recipe: Recipe, store: Store) -> None:
    """What every process but the first does: train with it, on what it has prepared."""
    ensure_nothing_missing(recipe, store)
    ensure_inputs(recipe)
    from videopolicy.training.planning import plan
    from videopolicy.training.session import Session
    from videopolicy.training.stages import train

    quiet = Reporter(quiet=True)
    dataset = wait_for(lambda: open_data(recipe, store, quiet)) if recipe.data else None
    for one in plan(recipe, dataset, store, open_own(recipe, dataset, store, quiet)):
        train(Session.here(recipe, store, quiet), one, dataset)


def _picture(session: Session, planned: list[PlannedStage], dataset: Dataset | None, folder: RunFolder) -> None:
    """Film the episodes, and compare what the policy's video model predicts with what happens."""
    from videopolicy.report import is_complete, make_predictions, make_videos, note_complete

    recipe, benchmark, reporter = session.recipe, session.recipe.benchmark, session.reporter
    key = digest(
        {
            "stages": [one.key for one in planned],
            "policy": recipe.policy.model_dump(mode="json"),
            "episodes": file_digest(folder.episodes_file) if folder.episodes_file.exists() else "",
            "closeup": benchmark.closeup().model_dump(mode="json"),
            "data": [dataset.fingerprint(), dict(dataset.splits)] if dataset else [],
        }
    )
    if is_complete(folder.videos, key):  # a finished run that is given again loads no model
        return
    from videopolicy.quality import measure_quality
    from videopolicy.training.stages import load_policy

    if recipe.eval.episodes:
        make_videos(folder, benchmark, reporter)
    trained = load_policy(recipe, planned).ready(session.device)
    make_predictions(folder, benchmark, trained.policy, reporter, normalizer=trained.normalizer)
    measure_quality(session, trained, dataset, folder)
    note_complete(folder.videos, key)


def _report(record: _Record, recipe: Recipe, reporter: Reporter) -> None:
    """Write the report, unless the one that is there shows this: the run was finished before, and stays as it is."""
    from videopolicy.report import report_facts, write_report

    folder, report = record.folder, record.folder.report_file
    facts = report_facts(folder, record.provenance, recipe.benchmark)
    if facts != record.provenance.report:
        record.update(finished=_now())
        write_report(folder.path, recipe.benchmark)
        record.update(report=facts.model_copy(update={"sha256": file_digest(report)}))
    for problem in EpisodeLog(folder.episodes_file).contents().problems:
        reporter.line(problem)
    reporter.line(f"report: {report}")


class _Record:
    """Keeps a run's provenance, which is written after every step.

    Args:
        folder: Of the run. A damaged file is named and started over: nothing but times and versions is lost.
        recipe: What is run.
        memory: Of this process.
        reporter: Names the damaged file.
    """

    def __init__(self, folder: RunFolder, recipe: Recipe, memory: MemoryMonitor, reporter: Reporter) -> None:
        self.folder, self._memory = folder, memory
        self._began = time.monotonic()
        try:
            before = folder.provenance()
        except StorageError as error:
            reporter.line(f"{error.message}; it is started over")
            before = None
        before = before or Provenance(started=_now())
        self._seconds = before.seconds or 0.0
        self.provenance = before.model_copy(
            update={
                "name": recipe.name,
                "command": " ".join(["vpolicy", *sys.argv[1:]]),
                "versions": surroundings.versions(recipe.registry),
                "commit": surroundings.commit(),
            }
        )

    def update(self, **facts: Any) -> None:
        """Record facts, the time and the memory."""
        peak = max(self._memory.peak_bytes, self.provenance.peak_memory_bytes or 0)
        spent = {"seconds": self._seconds + time.monotonic() - self._began, "peak_memory_bytes": peak}
        here = {"machine": surroundings.machine()}
        self.provenance = self.provenance.model_copy(update={**facts, **spent, **here})
        self.folder.write_provenance(self.provenance)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _demonstrated_states(folder: RunFolder, dataset: Dataset | None, reporter: Reporter) -> int | None:
    """Count the evaluation episodes that began in a state from which a demonstration began."""
    if dataset is None:
        return None
    demonstrated = dataset.initial_states()
    records = EpisodeLog(folder.episodes_file).read()
    count = sum(record.initial_state in demonstrated for record in records)
    if demonstrated:
        reporter.line(f"evaluate: {count} of {len(records)} episodes began in the initial state of a demonstration")
    return count


def _claim(folder: RunFolder, recipe: Recipe, stages: Sequence[str]) -> None:
    """Compare the weights too, then record what the run is."""
    ours = run_identity(recipe, stages)
    theirs = _ensure_same_run(folder, ours)
    folder.write_identity(ours.model_copy(update={"simulator": theirs.simulator}) if theirs else ours)
    folder.write_recipe(recipe.model_dump(mode="json"))


def _ensure_same_run(folder: RunFolder, ours: RunIdentity) -> RunIdentity | None:
    """Check that the episodes in a folder are of the same run; what is not known yet is left out: weights, simulator.

    Returns:
        Of which run they are; None where there are none.

    Raises:
        StorageError: They are of another one, or the file that says so is damaged.
    """
    if not EpisodeLog(folder.episodes_file).done:
        return None
    theirs = folder.identity()
    if theirs is None:
        raise StorageError(
            f"{folder.path} holds episodes, but {folder.identity_file.name}, which says of which policy, is missing.",
            "Give this run a name of its own with name=OTHER, or move that folder away.",
        )
    left_out = {"simulator"} if ours.stages else {"simulator", "stages"}
    mine, other = (one.model_dump(mode="json", exclude=left_out) for one in (ours, theirs))
    if different := [name for name in mine if other[name] != mine[name]]:
        raise StorageError(
            f"{folder.path} holds episodes of another policy or protocol (different: {', '.join(different)}).",
            "Give this run a name of its own with name=OTHER, or move that folder away.",
        )
    return theirs


def _write_curves(folder: RunFolder, planned: Sequence[PlannedStage]) -> None:
    """Put the curves of all stages into one file."""
    from videopolicy.training.curves import read_curves

    with written_whole(folder.curves_file) as part, part.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["stage", "step", "name", "value", "seconds"])
        for one in planned:
            for name, rows in read_curves(one.folder).items():
                writer.writerows([one.stage.name, step, name, value, ""] for step, value in rows)
