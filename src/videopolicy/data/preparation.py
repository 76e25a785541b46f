"""The data of a recipe: opened, or collected first where it asks for demonstrations."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from videopolicy.components.kinds import DatasetComponent
from videopolicy.console.progress import Reporter, duration
from videopolicy.contracts.benchmark import DemonstrationRequest
from videopolicy.contracts.dataset import Dataset
from videopolicy.data.remarks import remarks_on
from videopolicy.errors import DataError, listing
from videopolicy.recipes.recipe import Recipe
from videopolicy.simulators.environments import interpreter, worker_code
from videopolicy.storage.digests import changes, file_digests, to_be_read
from videopolicy.storage.files import locked
from videopolicy.storage.identity import collected_by, digest, identity
from videopolicy.storage.integrity import differences, recorded
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
    dataset = data.open(folder, store.root / CACHE, reporter) if folder else open_existing(data, store, reporter)
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
        return open_existing(data, store, reporter)
    folder = store.root / "datasets" / _demonstrations_key(recipe, request)
    facts = store.facts(folder, DataFacts)
    if facts is None:
        return None
    ensure_as_collected(folder)
    return data.open(folder / facts.folder, store.root / CACHE, reporter)


def is_collected(recipe: Recipe, store: Store) -> bool:
    """Whether the demonstrations that a recipe asks for are there."""
    request = recipe.required_data().demonstrations()
    if request is None:
        return True
    return store.facts(store.root / "datasets" / _demonstrations_key(recipe, request), DataFacts) is not None


def open_existing(data: DatasetComponent, store: Store, reporter: Reporter, thorough: bool = False) -> Dataset:
    """Open data that nobody has to collect, and compare them with what they were.

    The first time, and whenever a file has been touched, the file is read and everything in it is compared with the
    digests that the data themselves carry. Data that hold something else than before are others: what is trained on
    them has another key, and this is said.

    Args:
        data: The data.
        store: Remembers what was there.
        reporter: Shows progress and changes.
        thorough: Read every file, whether it seems to have been touched or not, and make a change an error.

    Raises:
        DataError: They cannot be opened, or are not what was collected.
    """
    path = getattr(data, "path", None)
    for folder in (path, path.parent) if isinstance(path, Path) else ():
        if recorded(folder) and Store.finished(folder) is not None:  # a folder of a store
            ensure_as_collected(folder, thorough)
    dataset = data.open(None, store.root / CACHE, reporter)
    if not isinstance(path, Path):
        return dataset
    if files := dataset.files():
        with readable_files(path):
            unread = sum(file.stat().st_size for file in files) if thorough else to_be_read(store, files)
            if unread:
                dataset.verify()
            with reporter.activity(f"read {path}, to know it again", unread) as progress:
                digests = file_digests(store, files, progress.advance, thorough)
        changed = changes(store, path, digests, keep=thorough)
    else:  # the fingerprint reads everything, and depends on the options
        opened = Path(f"{path} {data.model_dump_json()}")
        changed = changes(store, opened, {path: dataset.fingerprint()}, keep=thorough)
    if changed and thorough:
        raise DataError(
            f"The data in {path} are not what they were; {changed}.",
            "Restore them; or use them as they are: what was trained on them is then trained again.",
        )
    if changed:
        reporter.line(f"The data in {path} are not what they were; {changed}. They count as other data.")
    return dataset


@contextmanager
def readable_files(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a file that vanishes or cannot be read into an error that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or path} cannot be read: {error.strerror or error}.", "Make the data readable."
        ) from error


def _demonstrations_key(recipe: Recipe, request: DemonstrationRequest) -> str:
    data = recipe.required_data()
    return digest(
        {
            "benchmark": collected_by(recipe.benchmark.demonstrating()),
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
    if (facts := store.facts(folder, DataFacts)) is not None:
        return _collected_earlier(folder, facts, reporter)
    from videopolicy.data.collection import collect

    benchmark = recipe.benchmark.demonstrating()
    python = interpreter(benchmark.launch(), say=reporter.line)
    with locked(folder, "collecting these demonstrations", reporter.line):
        if (facts := store.facts(folder, DataFacts)) is not None:  # by whoever held the lock
            return _collected_earlier(folder, facts, reporter)
        started = time.monotonic()
        writer = data.writer(folder, benchmark.spaces())
        collected = collect(
            benchmark,
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
            benchmark=benchmark.type,
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


def _collected_earlier(folder: Path, facts: DataFacts, reporter: Reporter) -> tuple[Path, DataFacts]:
    ensure_as_collected(folder)
    Store.used(folder)
    reporter.line(f"collect demonstrations: done earlier ({sum(facts.episodes.values())} episodes)")
    return folder / facts.folder, facts.model_copy(update={"reused": True})


def ensure_as_collected(folder: Path, thorough: bool = False) -> None:
    """Check that collected demonstrations are what was collected.

    Args:
        folder: Of the store, as it was finished.
        thorough: Read every file, whether it seems to have been touched or not.

    Raises:
        DataError: Files were changed, removed or added since; the message names them.
    """
    if wrong := differences(folder, thorough, closed=True):
        raise DataError(
            f"The demonstrations in {folder} are no longer what was collected: {listing(wrong)}.",
            f"Copy them again from where they are whole, or remove them (rm -r {folder}) and run the same command "
            "again: they are collected again. To use changed data on purpose, copy them elsewhere and name that path.",
        )
