"""What a file says of itself in its attributes and masks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from pydantic import ValidationError

from videopolicy import DataError, Spaces, listing


@contextmanager
def readable(path: Path, where: str = "") -> Iterator[None]:
    """Turn what HDF5 says about a damaged file into an error that names it."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        place = f"{path}, {where}," if where else str(path)
        said = str(error.args[0]) if error.args else repr(error)
        raise DataError(
            f"{place} cannot be read: {said}.",
            "The file is cut short, damaged, or not HDF5: copy or download it again, or delete it to collect it anew.",
        ) from error


def data_group(path: Path, file: h5py.File) -> h5py.Group:
    """The group that holds the episodes."""
    if not isinstance(file.get("data"), h5py.Group):
        raise DataError(
            f"{path} has no group 'data'; it holds {listing(file.keys())}.",
            "Convert it to the robomimic layout: data/demo_0/{actions,obs/...}.",
        )
    return file["data"]


def task_of(path: Path, fallback: str) -> str:
    """Name of a file's task, or the fallback where it does not say."""
    with readable(path), h5py.File(path) as file:
        attributes = data_group(path, file).attrs
        if "task" in attributes:
            return text(attributes, "task")
        if "bddl_file_name" in attributes:  # LIBERO: env_name is shared by many tasks, this file is not
            return Path(text(attributes, "bddl_file_name")).stem
        return str(mapping(attributes, "env_args", str(path)).get("env_name") or fallback)


def sentence_of(path: Path, attributes: h5py.AttributeManager) -> str:
    """The sentence of a file that says it once for all episodes (LIBERO)."""
    return str(mapping(attributes, "problem_info", str(path)).get("language_instruction", "")).strip().strip('"')


def spaces_of(path: Path, attributes: h5py.AttributeManager) -> Spaces | None:
    """The spaces of a file that was collected here."""
    if "spaces" not in attributes:
        return None
    try:
        return Spaces.model_validate_json(text(attributes, "spaces"))
    except ValidationError as error:
        raise DataError(f"{path}: the attribute 'spaces' cannot be read: {error}", "Collect the file anew.") from error


def masked(file: h5py.File, key: str) -> set[str]:
    """The episodes that a mask of the file names."""
    names = file.get(f"mask/{key}")
    if not isinstance(names, h5py.Dataset):
        return set()
    return {name.decode() if isinstance(name, bytes) else str(name) for name in names[()]}


def mapping(attributes: h5py.AttributeManager, key: str, where: str) -> dict[str, Any]:
    """An attribute that is a JSON mapping; empty where it is absent."""
    try:
        value = json.loads(text(attributes, key) or "{}")
    except ValueError as error:
        raise DataError(f"{where}: the attribute '{key}' is not JSON: {error}", "Record the file again.") from error
    return value if isinstance(value, dict) else {}


def text(attributes: h5py.AttributeManager, key: str) -> str:
    """An attribute as text; empty where it is absent."""
    value = attributes.get(key, "")
    return value.decode() if isinstance(value, bytes) else str(value)
