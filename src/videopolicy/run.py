"""Does what a recipe says: environment, data, stages, evaluation, report. What is there already is not done again."""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import yaml

from videopolicy.artifacts import Store, digest, identity, locked, storage_errors
from videopolicy.component import DemonstrationRequest
from videopolicy.contracts.dataset import Dataset
from videopolicy.environments import interpreter
from videopolicy.errors import DataError, StorageError
from videopolicy.monitor import MemoryMonitor
from videopolicy.progress import Reporter, duration
from videopolicy.provenance import Provenance
from videopolicy.recipe import Recipe
from videopolicy.results import EpisodeLog


def prepare_data(recipe: Recipe, store: Store, reporter: Reporter) -> tuple[Dataset, dict[str, Any]]:
    """Open the recipe's dataset, and collect it first where it asks for demonstrations.

    Returns:
        The dataset, and facts about its collection (empty for existing data).

    Raises:
        DataError: The dataset does not fit the benchmark.
    """
    data = recipe.required_data()
    request = data.demonstrations()
    facts: dict[str, Any] = {}
    folder = None
    if request is not None:
        folder, facts = _collected(recipe, request, store, reporter)
    dataset = data.build(folder)
    spaces = recipe.benchmark.spaces()
    mismatches = spaces.mismatches(dataset.spaces, f"benchmark '{recipe.benchmark.type}'", "the dataset")
    if mismatches:
        raise DataError(
            "The dataset does not fit the benchmark: " + "; ".join(mismatches) + ".",
            "Name other data, or change the benchmark's cameras, sizes or conventions to those of the data.",
        )
    return dataset, facts


def open_data(recipe: Recipe, store: Store) -> Dataset | None:
    """The recipe's dataset where it is there already; None when it would have to be collected first.

    Raises:
        DataError: There is a dataset, and it cannot be opened.
    """
    data = recipe.required_data()
    request = data.demonstrations()
    if request is None:
        return data.build(None)
    folder = store.root / "datasets" / _demonstrations_key(recipe, request)
    facts = store.finished(folder)
    return None if facts is None else data.build(folder / facts["folder"])


def _demonstrations_key(recipe: Recipe, request: DemonstrationRequest) -> str:
    data = recipe.required_data()
    return digest(
        {
            "benchmark": identity(recipe.benchmark, recipe.registry),
            "request": request.model_dump(),
            "dataset": [data.type, identity(data, recipe.registry)["sources"]],
        }
    )


def _collected(
    recipe: Recipe, request: DemonstrationRequest, store: Store, reporter: Reporter
) -> tuple[Path, dict[str, Any]]:
    key = _demonstrations_key(recipe, request)
    folder = store.folder("datasets", key)
    if (facts := store.finished(folder)) is not None:
        reporter.line(f"collect demonstrations: done earlier ({sum(facts['episodes'].values())} episodes)")
        return folder / facts["folder"], {**facts, "reused": True}
    from videopolicy.collection import collect

    python = interpreter(recipe.benchmark.launch(), say=reporter.line)
    started = time.monotonic()
    with locked(folder, "collecting these demonstrations"):
        writer = recipe.required_data().writer(folder, recipe.benchmark.spaces())
        collected = collect(
            recipe.benchmark,
            request,
            writer,
            python,
            min(recipe.eval.workers, os.cpu_count() or 1),
            folder / "logs",
            reporter,
        )
    seconds = time.monotonic() - started
    facts = {
        "key": key,
        "folder": str(collected.folder.relative_to(folder)),
        "episodes": collected.episodes,
        "seconds": seconds,
        "steps": collected.steps,
        "steps_per_second": collected.steps / seconds,
    }
    store.finish(folder, facts)
    count = sum(collected.episodes.values())
    reporter.line(
        f"collect demonstrations: {count} episodes in {duration(seconds)}, "
        f"{facts['steps_per_second']:.0f} rendered steps a second"
    )
    return collected.folder, {**facts, "reused": False}


def run(recipe: Recipe, runs: Path, reporter: Reporter, store: Store | None = None) -> Path:
    """Run a recipe to its end, or go on with it.

    Args:
        recipe: The recipe.
        runs: Folder of run folders.
        reporter: Shows progress.
        store: Where artifacts lie.

    Returns:
        The run folder.

    Raises:
        VpolicyError: Of every kind that bad input and a failing machine can cause.
    """
    store = store or Store()
    folder = runs / recipe.name
    with locked(folder, f"run '{recipe.name}'"), MemoryMonitor() as memory:
        started = time.monotonic()
        _refuse_another_run(folder, recipe)
        provenance = Provenance(folder, recipe)
        before = provenance.facts["seconds"]

        def record(**facts: Any) -> None:
            peak = max(memory.peak_bytes, provenance.facts["peak_memory_bytes"])
            provenance.update(**facts, seconds=before + time.monotonic() - started, peak_memory_bytes=peak)

        for component in recipe.components():
            component.fetch()
        # These need torch: everything that can be refused without it has been.
        from videopolicy import stages
        from videopolicy.evaluation import device_for_acting, evaluate
        from videopolicy.report import make_predictions, make_videos, write_report

        stages.refuse_missing_weights(recipe)
        python = interpreter(recipe.benchmark.launch(), say=reporter.line) if recipe.eval.episodes else None
        dataset, facts = prepare_data(recipe, store, reporter) if recipe.data else (None, {})
        if facts and not (facts.get("reused") and "data" in provenance.facts):
            record(data=facts)
        planned = stages.plan(recipe, dataset, store)
        _claim(folder, recipe, planned[-1].key)
        record()
        device = device_for_acting()
        for one in planned:
            provenance.add_stage(stages.train(recipe, one, dataset, store, device, reporter))
            _write_curves(folder, planned)
            record()
        if python is not None:
            evaluation = evaluate(recipe, planned, folder, python, device, reporter)
            if evaluation:
                overlap = _overlap(folder, dataset, reporter) if dataset else {}
                record(evaluation={**evaluation, **overlap})
            make_videos(folder, recipe.benchmark, reporter)
        policy, normalizer = stages.load_policy(recipe, planned)
        make_predictions(folder, recipe.benchmark, policy.eval().to(device), reporter, normalizer=normalizer.to(device))
        record()
        provenance.finish()
        report = write_report(folder, recipe.benchmark)
        log = EpisodeLog(folder / "episodes.jsonl").contents()
        for problem in log.problems:
            reporter.line(problem)
        reporter.line(f"report: {report}")
    return folder


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
        "protocol": recipe.benchmark.protocol(),
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
    from videopolicy.curves import read_curves

    with storage_errors(folder):
        part = folder / ".train.csv.part"
        with part.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["stage", "step", "name", "value", "seconds"])
            for one in planned:
                for name, rows in read_curves(one.folder).items():
                    writer.writerows([one.stage.name, step, name, value, ""] for step, value in rows)
        part.replace(folder / "train.csv")
