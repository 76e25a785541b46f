"""What a file says of itself in its attributes and masks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from pydantic import ValidationError

from videopolicy import DataError, Spaces, listing
from videopolicy.parts.sentences import Sentence, read_sentence
from vpolicy_hdf5.faults import readable
from vpolicy_hdf5.layout import LIBERO
from vpolicy_hdf5.libero import BOTTOM_UP, UPRIGHT
from vpolicy_hdf5.whole import ensure_whole, follow


def data_group(path: Path, file: h5py.File) -> h5py.Group:
    """The group that holds the episodes."""
    data = follow(file, "data", str(path))
    if not isinstance(data, h5py.Group):
        raise DataError(
            f"{path} has no group 'data'; it holds {listing(file.keys())}.",
            "Convert it to the robomimic layout: data/demo_0/{actions,obs/...}.",
        )
    return data


def task_of(path: Path, fallback: str) -> str:
    """Name of a file's task, or the fallback where it does not say."""
    with readable(path), h5py.File(path) as file:
        attributes = data_group(path, file).attrs
        if "task" in attributes:
            return text(attributes, "task", str(path))
        if LIBERO in attributes:  # env_name is shared by many tasks, this file is not
            return Path(text(attributes, LIBERO, str(path))).stem
        name = mapping(attributes, "env_args", str(path)).get("env_name")
        if name is not None and not isinstance(name, str):
            raise DataError(f"{path}: 'env_name' of 'env_args' is {name!r}, no name.", "Write the attribute again.")
        return name or fallback


def sentence_of(path: Path, attributes: h5py.AttributeManager) -> Sentence:
    """The sentence of a file that says it once for all episodes (LIBERO).

    The parser of its task files gives a list of words (``libero/envs/bddl_utils.py``), which some files hold as it is.
    """
    said = mapping(attributes, "problem_info", str(path)).get("language_instruction")
    return read_sentence(said, f"{path}, 'problem_info'")


def spaces_of(path: Path, attributes: h5py.AttributeManager) -> Spaces | None:
    """The spaces of a file that was collected here."""
    if "spaces" not in attributes:
        return None
    try:
        return Spaces.model_validate_json(text(attributes, "spaces", str(path)))
    except ValidationError as error:
        raise DataError(f"{path}: the attribute 'spaces' cannot be read: {error}", "Collect the file again.") from error


def orientation_of(path: Path, attributes: h5py.AttributeManager, said: str | None) -> str:
    """Which way up a file's images are stored: ``upright``, ``bottom-up`` or ``mirrored``.

    Args:
        path: The file.
        attributes: Of its ``data``.
        said: What the recipe says; None where it says nothing.

    Raises:
        DataError: File and recipe contradict each other, or neither says what must be known.
    """
    convention = text(attributes, "macros_image_convention", str(path))
    stored = {BOTTOM_UP: "bottom-up", UPRIGHT: "upright"}.get(convention)
    if convention and stored is None:
        raise DataError(
            f"{path}: 'macros_image_convention' is {convention!r}, not {BOTTOM_UP!r} or {UPRIGHT!r}.",
            "Correct the attribute.",
        )
    if said and stored and said != stored:
        raise DataError(
            f"The images of {path} are stored {stored} ('macros_image_convention' is {convention!r}), and the recipe's "
            f"data section says {said}.",
            "Leave `orientation` out of the data section; where the images were turned since, correct the attribute.",
        )
    if LIBERO in attributes and not (said or stored):
        raise DataError(
            f"{path} is of LIBERO, and says nowhere which way up its images are.",
            "Say it in the data section: `orientation: bottom-up` for robosuite's raw images, which LIBERO's own files "
            "hold, `upright`, or `mirrored` for those that were turned by 180 degrees.",
        )
    return said or stored or "upright"


def orientation_seen(declared: Sequence[Spaces | None]) -> Literal["upright", "mirrored"]:
    """How the images of some files are once they are read: upright, or as they were when they were collected.

    Raises:
        DataError: Those of some files are mirrored, and those of others are not.
    """
    found = {camera.orientation for spaces in declared if spaces for camera in spaces.cameras}
    if None in declared or not found:
        found.add("upright")
    if len(found) > 1:
        raise DataError("The images of some files are mirrored, and those of others are not.", "Use files of one kind.")
    return found.pop()


def masked(file: h5py.File, key: str, where: str) -> set[str]:
    """The episodes that a mask of the file names; empty where the file has no such mask."""
    names = follow(file, f"mask/{key}", where)
    if names is None:
        return set()
    if not isinstance(names, h5py.Dataset) or names.ndim != 1 or names.dtype.kind not in "SO":
        raise DataError(
            f"{where}: 'mask/{key}' is {names}, no list of names of episodes.",
            "Write the mask again, with names such as demo_0, or remove it.",
        )
    ensure_whole(names, f"{where}: 'mask/{key}'")
    return {_decoded(name, f"{where}: 'mask/{key}'") for name in names[()]}


def mapping(attributes: h5py.AttributeManager, key: str, where: str) -> dict[str, Any]:
    """An attribute that is a JSON mapping; empty where it is absent."""
    written: Any = text(attributes, key, where) or "{}"
    try:
        value = json.loads(written)
        if isinstance(value, str):  # some converters write JSON of JSON
            value = json.loads(value or "{}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: the attribute '{key}' is not JSON: {error}", "Record the file again.") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{where}: the attribute '{key}' is {written!r}, no JSON mapping.", "Record the file again.")
    return value


def text(attributes: h5py.AttributeManager, key: str, where: str) -> str:
    """An attribute as text; empty where it is absent."""
    value = attributes.get(key, "")
    if isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, np.ndarray):
        if value.size > 1:
            raise DataError(f"{where}: the attribute '{key}' holds {value.size} values, not one.", "Write one value.")
        value = value.item() if value.size else ""
    return _decoded(value, f"{where}: the attribute '{key}'")


def whole_number(attributes: h5py.AttributeManager, key: str, where: str) -> int | None:
    """An attribute as a whole number; None where it is absent."""
    written = text(attributes, key, where)
    if not written:
        return None
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise DataError(
            f"{where}: the attribute '{key}' is {written!r}, no whole number.", "Write the attribute again."
        )
    return int(number)


def _decoded(value: object, what: str) -> str:
    try:
        decoded = value.decode() if isinstance(value, bytes) else str(value)
        decoded.encode()  # of bytes that are not UTF-8, h5py makes letters that no text may hold
    except UnicodeError:
        raise DataError(f"{what} is not UTF-8 text: {value!r}.", "Write it again as UTF-8.") from None
    return decoded
