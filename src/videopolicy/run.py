"""Does what a recipe says: environment, data, stages, evaluation, report. What is there already is not done again."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import yaml

from videopolicy.console.monitor import MemoryMonitor
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Dataset
from videopolicy.data.preparation import open_data, prepare_data
from videopolicy.errors import StorageError
from videopolicy.executors.engine import Executor
from videopolicy.recipes.recipe import Recipe
from videopolicy.results.records import EpisodeLog
from videopolicy.simulators.environments import interpreter
from videopolicy.storage.files import locked, storage_errors
from videopolicy.storage.identity import code_behind, digest, protocol_of
from videopolicy.storage.provenance import Provenance
from videopolicy.storage.store import Store
from videopolicy.training.distributed import rank, refuse_other_numbers, wait_for


def run(
    recipe: Recipe, runs: Path, reporter: Reporter, store: Store | None = None, executor: Executor | None = None
) -> Path:
    """Run a recipe to its end, or go on with it.

    Args:
        recipe: The recipe.
        runs: Folder of run folders.
        reporter: Shows progress.
        store: Where artifacts lie.
        executor: Trains the stages and runs the episodes elsewhere; None or a local one: in this process.

    Returns:
        The run folder.

    Raises:
        VpolicyError: Of every kind that bad input and a failing machine can cause.
    """
    store = store or Store()
    folder = runs / recipe.name
    elsewhere = executor if executor and executor.name != "local" else None
    refuse_other_numbers(recipe)
    if rank() > 0:
        _join(recipe, store)
        return folder
    with locked(folder, f"run '{recipe.name}'"), MemoryMonitor() as memory:
        started = time.monotonic()
        _refuse_another_run(folder, recipe)
        provenance = Provenance(folder, recipe.name, recipe.registry)
        before = provenance.facts["seconds"]

        def record(**facts: Any) -> None:
            peak = max(memory.peak_bytes, provenance.facts["peak_memory_bytes"])
            provenance.update(**facts, seconds=before + time.monotonic() - started, peak_memory_bytes=peak)

        code_behind(recipe.components(), recipe.registry)  # read now: what is edited while it runs is the next run's
        for component in recipe.components():
            component.fetch()
        # These need torch: everything that can be refused without it has been.
        from videopolicy.evaluation.evaluate import device_for_acting, evaluate
        from videopolicy.executors.sharding import evaluate_in_units
        from videopolicy.executors.waves import train_planned
        from videopolicy.quality import measure_quality
        from videopolicy.report import make_predictions, make_videos, write_report
        from videopolicy.training import stages

        stages.refuse_missing_weights(recipe)
        python = interpreter(recipe.benchmark.launch(), say=reporter.line) if recipe.eval.episodes else None
        dataset, facts = prepare_data(recipe, store, reporter) if recipe.data else (None, {})
        if facts and not (facts.get("reused") and "data" in provenance.facts):
            record(data=facts)
        planned = stages.plan(recipe, dataset, store)
        _claim(folder, recipe, planned[-1].key)
        collected = [store.folder("datasets", facts["key"])] if facts else []
        store.note_run(folder, recipe.name, [*stages.needed(planned), *collected, *([python] if python else [])])
        record()
        device = device_for_acting()
        mine = [(recipe, one) for one in planned]
        trained = train_planned(mine, store, elsewhere, reporter) if elsewhere else {}
        for one in planned:
            facts = trained.get(one.key) or stages.train(recipe, one, dataset, store, device, reporter)
            provenance.add_stage(facts)
            _write_curves(folder, planned)
            record()
        if python is not None:
            if elsewhere is None:
                evaluation = evaluate(recipe, planned, folder, python, device, reporter)
            else:
                run_id = digest(_identity(recipe, planned[-1].key))
                evaluation = evaluate_in_units(elsewhere, recipe, planned, folder, run_id, store, reporter)
            if evaluation:
                overlap = _overlap(folder, dataset, reporter) if dataset else {}
                record(evaluation={**evaluation, **overlap})
            make_videos(folder, recipe.benchmark, reporter)
        policy, normalizer = stages.load_policy(recipe, planned)
        policy, normalizer = policy.eval().to(device), normalizer.to(device)
        make_predictions(folder, recipe.benchmark, policy, reporter, normalizer=normalizer)
        measure_quality(recipe, policy, normalizer, dataset, folder, device, reporter)
        record()
        provenance.finish()
        report = write_report(folder, recipe.benchmark)
        log = EpisodeLog(folder / "episodes.jsonl").contents()
        for problem in log.problems:
            reporter.line(problem)
        reporter.line(f"report: {report}")
    return folder


def _join(recipe: Recipe, store: Store) -> None:
    """What every process but the first does: train with it, on what it has prepared."""
    for component in recipe.components():
        component.fetch()
    from videopolicy.evaluation.evaluate import device_for_acting
    from videopolicy.training import stages

    stages.refuse_missing_weights(recipe)
    quiet = Reporter(quiet=True)
    dataset = wait_for(lambda: open_data(recipe, store, quiet)) if recipe.data else None
    for one in stages.plan(recipe, dataset, store):
        stages.train(recipe, one, dataset, store, device_for_acting(), quiet)


def _overlap(folder: Path, dataset: Dataset, reporter: Reporter) -> dict[str, int]:
    """Count the evaluation episodes that began in a state from which a demonstration began."""
    demonstrated = dataset.initial_states()
    records = EpisodeLog(folder / "episodes.jsonl").read()
    count = sum(record.initial_state in demonstrated for record in records)
    if demonstrated:
        reporter.line(f"evaluate: {count} of {len(records)} episodes began in the initial state of a demonstration")
    return {"episodes_from_demonstrated_states": count}


def _identity(recipe: Recipe, last_stage: str | None) -> dict[str, Any]:
    """What must stay equal for episodes to belong into one run folder."""
    return {
        "policy": last_stage,
        "acting": digest(recipe.policy.model_dump(mode="json")),
        "protocol": protocol_of(recipe.benchmark),
        "execute": recipe.eval.execute,
        "batch_size": recipe.eval.batch_size,
        "seed": recipe.seed,
    }


def _refuse_another_run(folder: Path, recipe: Recipe) -> None:
    """Refuse a folder whose recipe would have been evaluated otherwise, before anything is spent."""
    _compare(folder, _identity(recipe, None), ("protocol", "execute", "batch_size", "seed"))


def _claim(folder: Path, recipe: Recipe, last_stage: str) -> None:
    """Compare the policy too, then write the resolved recipe."""
    ours = _identity(recipe, last_stage)
    _compare(folder, ours, tuple(ours))
    with storage_errors(folder):
        (folder / "identity.json").write_text(json.dumps(ours, indent=2, default=str) + "\n", encoding="utf-8")
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=100)
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")


def _compare(folder: Path, ours: dict[str, Any], names: tuple[str, ...]) -> None:
    try:
        theirs = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return
    plain = json.loads(json.dumps(ours, default=str))
    different = [name for name in names if theirs.get(name) != plain[name]]
    if different and EpisodeLog(folder / "episodes.jsonl").done:
        raise StorageError(
            f"{folder} holds episodes of another policy or protocol (different: {', '.join(different)}).",
            "Give this run a name of its own with name=OTHER, or move that folder away.",
        )


def _write_curves(folder: Path, planned: list[Any]) -> None:
    """Put the curves of all stages into ``train.csv``."""
    from videopolicy.training.curves import read_curves

    with storage_errors(folder):
        part = folder / ".train.csv.part"
        with part.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["stage", "step", "name", "value", "seconds"])
            for one in planned:
                for name, rows in read_curves(one.folder).items():
                    writer.writerows([one.stage.name, step, name, value, ""] for step, value in rows)
        part.replace(folder / "train.csv")
