"""The data of a recipe: opened, or collected first where it asks for demonstrations."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from videopolicy.components.kinds import DemonstrationRequest
from videopolicy.console.progress import Reporter, duration
from videopolicy.contracts.dataset import Dataset
from videopolicy.data.remarks import remarks_on
from videopolicy.errors import DataError
from videopolicy.recipes.recipe import Recipe
from videopolicy.simulators.environments import interpreter, worker_code
from videopolicy.storage.files import locked
from videopolicy.storage.identity import collected_by, digest, identity
from videopolicy.storage.provenance import DataFacts
from videopolicy.storage.store import Store

CACHE = "dataset-cache"
"""Folder of the store for what makes datasets quick to open."""


class PreparedData(NamedTuple):
    """An open dataset, and what collecting it took; None where it existed already."""

    dataset: Dataset
    facts: DataFacts | None


def prepare_data(recipe: Recipe, store: Store, reporter: Reporter) -> PreparedData:
    """Open the recipe's dataset, and collect it first where it asks for demonstrations.

    Raises:
        DataError: The dataset does not fit the benchmark.
    """
    data = recipe.required_data()
    request = data.demonstrations()
    facts, folder = None, None
    if request is not None:
        folder, facts = _collected(recipe, request, store, reporter)
    dataset = data.open(folder, store.root / CACHE, reporter)
    spaces = recipe.benchmark.spaces()
    mismatches = spaces.mismatches(dataset.spaces, f"benchmark '{recipe.benchmark.type}'", "the dataset")
    if mismatches:
        raise DataError(
            "The dataset does not fit the benchmark: " + "; ".join(mismatches) + ".",
            "Name other data, or change the benchmark's cameras, sizes or conventions to those of the data.",
        )
    for remark in remarks_on(dataset):
        reporter.line(f"data: {remark}")
    return PreparedData(dataset, facts)


def open_data(recipe: Recipe, store: Store, reporter: Reporter) -> Dataset | None:
    """The recipe's dataset where it is there already; None when it would have to be collected first.

    Raises:
        DataError: There is a dataset, and it cannot be opened.
    """
    data = recipe.required_data()
    request = data.demonstrations()
    if request is None:
        return data.open(None, store.root / CACHE, reporter)
    folder = store.root / "datasets" / _demonstrations_key(recipe, request)
    recorded = store.finished(folder)
    if recorded is None:
        return None
    return data.open(folder / DataFacts.model_validate(recorded).folder, store.root / CACHE, reporter)


def _demonstrations_key(recipe: Recipe, request: DemonstrationRequest) -> str:
    data = recipe.required_data()
    return digest(
        {
            "benchmark": collected_by(recipe.benchmark),
            "worker": worker_code(),
            "request": request.model_dump(),
            "dataset": [data.type, identity(data, recipe.registry)["sources"]],
        }
    )


def _collected(
    recipe: Recipe, request: DemonstrationRequest, store: Store, reporter: Reporter
) -> tuple[Path, DataFacts]:
    data = recipe.required_data()
    key = _demonstrations_key(recipe, request)
    folder = store.folder("datasets", key)
    if (recorded := store.finished(folder)) is not None:
        store.used(folder)
        facts = DataFacts.model_validate(recorded)
        reporter.line(f"collect demonstrations: done earlier ({sum(facts.episodes.values())} episodes)")
        return folder / facts.folder, facts.model_copy(update={"reused": True})
    from videopolicy.data.collection import collect

    python = interpreter(recipe.benchmark.launch(), say=reporter.line)
    started = time.monotonic()
    with locked(folder, "collecting these demonstrations"):
        writer = data.writer(folder, recipe.benchmark.spaces())
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
    facts = DataFacts(
        key=key,
        type=data.type,
        benchmark=recipe.benchmark.type,
        folder=str(collected.folder.relative_to(folder)),
        episodes=collected.episodes,
        seconds=seconds,
        steps=collected.steps,
        steps_per_second=collected.steps / seconds,
    )
    store.finish(folder, facts.model_dump(mode="json"))
    reporter.line(
        f"collect demonstrations: {sum(collected.episodes.values())} episodes in {duration(seconds)}, "
        f"{facts.steps_per_second:.0f} rendered steps a second"
    )
    return collected.folder, facts
