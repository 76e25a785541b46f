"""Which files, tasks and episodes of a dataset are read, and which of them teach actions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import h5py

from videopolicy import DataError, did_you_mean, listing
from videopolicy.parts.collecting import PARTS
from videopolicy.parts.files import ensure_data
from vpolicy_hdf5.attributes import data_group, masked, task_of
from vpolicy_hdf5.layout import MARKER
from vpolicy_hdf5.options import RobomimicHDF5Options
from vpolicy_hdf5.whole import follow


def data_files(path: Path, pattern: str) -> list[Path]:
    """The HDF5 files that a path names, in a fixed order.

    Raises:
        DataError: There is none, or a collection was not finished.
    """
    if not path.exists() and not path.is_symlink():
        raise DataError(f"The dataset {path} does not exist.", "Correct `path` in the recipe's data section.")
    ensure_data(path)
    if path.is_file():
        return [path]
    if (path / PARTS).is_dir() and not (path / MARKER).is_file():
        raise DataError(f"The collection in {path} was not finished.", "Run `vpolicy data collect` again: it goes on.")
    matching = sorted(file for file in path.glob(pattern) if PARTS not in file.relative_to(path).parts)
    for file in matching:
        ensure_data(file)
    found = [file for file in matching if file.is_file()]  # a folder's name may end like a file's
    if not found:
        others = sorted(str(file.relative_to(path)) for file in path.rglob("*.hdf5"))
        raise DataError(
            f"The folder {path} holds no file '{pattern}', only {listing(others, limit=4)}."
            if others
            else f"The folder {path} holds no .hdf5 file.",
            "Correct `path` or `files` in the recipe's data section, or collect first.",
        )
    return found


def tasks_of(path: Path, files: list[Path]) -> dict[Path, str]:
    """Name of the task of every file.

    A file that says nothing is called after its own name, or after its folder where all files have one name.
    """
    shared = len(files) > 1 and len({file.name for file in files}) == 1
    return {file: task_of(file, str(file.parent.relative_to(path)) if shared else file.stem) for file in files}


def actionless(tasks: Collection[str], wanted: tuple[str, ...] | float) -> frozenset[str]:
    """The tasks whose actions are not to be seen.

    A fraction chooses by a hash of the names, so that the choice depends on nothing else. At least one task
    keeps its actions.

    Raises:
        DataError: A name is not that of a task.
    """
    distinct = sorted(set(tasks))
    if isinstance(wanted, float):
        ranked = sorted(distinct, key=lambda task: hashlib.sha256(task.encode()).hexdigest())
        return frozenset(ranked[: min(round(wanted * len(distinct)), len(distinct) - 1)])
    _known(wanted, distinct, "actionless_tasks")
    return frozenset(wanted)


def episodes_of(file: h5py.File, path: Path, task: str, options: RobomimicHDF5Options) -> list[str]:
    """Names of the episodes that are read, in numerical order.

    Raises:
        DataError: The file has none, or not what the options name.
    """
    data = data_group(path, file)
    there = sorted((name for name in data if isinstance(follow(data, name, str(path)), h5py.Group)), key=_number)
    if not there:
        raise DataError(
            f"{path} holds no episode.", "Choose other files with `files` in the recipe's data section, or collect one."
        )
    chosen = there
    if options.filter_key is not None:
        listed = masked(file, options.filter_key, str(path))
        chosen = [name for name in there if name in listed]
        if not chosen:
            masks = list(file["mask"]) if isinstance(file.get("mask"), h5py.Group) else []
            raise DataError(
                f"{path} has no episodes under the filter key '{options.filter_key}'; its masks are {listing(masks)}.",
                "Correct `filter_key` in the recipe's data section.",
            )
    left_out = options.skip.get(task, ())
    if unknown := sorted(set(left_out) - set(there)):
        raise DataError(
            f"{path} (task '{task}') has no episode '{unknown[0]}' to skip.{did_you_mean(unknown[0], there)}",
            "Correct `skip` in the recipe's data section.",
        )
    chosen = [name for name in chosen if name not in left_out][: options.episodes_per_task]
    if not chosen:
        raise DataError(f"`skip` leaves no episode of task '{task}' in {path}.", "Choose other files, or skip fewer.")
    return chosen


def check_skipped(tasks: Collection[str], skip: Mapping[str, tuple[str, ...]]) -> None:
    """Ensure that the tasks of skipped episodes are there."""
    _known(skip, sorted(set(tasks)), "skip")


def _known(names: Collection[str], tasks: list[str], option: str) -> None:
    for name in names:
        if name not in tasks:
            raise DataError(
                f"`{option}` names the task '{name}', which the files do not have.{did_you_mean(name, tasks)} "
                f"They have {listing(tasks)}.",
                f"Correct `{option}` in the recipe's data section.",
            )


def _number(name: str) -> tuple[int, str]:
    digits = name.rsplit("_", 1)[-1]
    return (int(digits) if digits.isdigit() else -1, name)
