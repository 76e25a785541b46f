"""Whether data that were collected here are what was collected: wherever they lie, they carry digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from videopolicy import DataError, Spaces
from vpolicy_hdf5.attributes import data_group, mapping, readable, spaces_of, text
from vpolicy_hdf5.layout import LIBERO, MARKER, STATE_KEY, image_key, task_file
from vpolicy_hdf5.libero import is_libero

_FRAMES = 256
_HINT = "Restore the file, or collect the demonstrations again."


def content_keys(spaces: Spaces, libero: bool) -> Iterator[str]:
    """The keys of every episode that its digest covers, in this order; its own ``further`` ones come after them."""
    yield "actions"
    if spaces.state is not None:
        yield f"obs/{STATE_KEY}"
    for camera in spaces.cameras:
        yield f"obs/{image_key(camera.name, libero)}"


def described(demo: h5py.Group) -> Iterator[str]:
    """The texts of an episode that its digest covers, where they are there."""
    for name in ("facts", "model_file"):
        yield text(demo.attrs, name, demo.name)


def check_collection(path: Path) -> None:
    """Check that the files and episodes of a collection are all there, without reading what they hold.

    Args:
        path: A dataset; nothing is known of one that was not collected here.

    Raises:
        DataError: A file or an episode is missing, is another one, or the collection's own list is damaged.
    """
    marker = path / MARKER
    if not marker.is_file():
        return
    try:
        recorded = json.loads(marker.read_text(encoding="utf-8"))
        names = {str(task): str(name) for task, name in recorded.get("files", {}).items()}
        digests = {str(task): [str(one) for one in ones] for task, ones in recorded.get("digests", {}).items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{marker} is damaged: {error}.", _HINT) from error
    for task, expected in digests.items():
        file = path / names.get(task, task_file(task))
        if not file.is_file():
            raise DataError(f"{file} is missing, with {len(expected)} episodes that were collected.", _HINT)
        with readable(file), h5py.File(file) as opened:
            data = data_group(file, opened)
            found = {name: text(demo.attrs, "digest", f"{file}, episode '{name}'") for name, demo in data.items()}
        wanted = {f"demo_{number}": digest for number, digest in enumerate(expected)}
        if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
            raise DataError(
                f"{file} does not hold the episodes that were collected: {len(found)} instead of {len(expected)}, and "
                f"'{wrong[0]}' is {'missing' if wrong[0] not in found else 'another one'}.",
                _HINT,
            )


def verify_episodes(path: Path) -> None:
    """Compare what every episode of a file holds with its digest, where it carries one; everything is read.

    Raises:
        DataError: They differ.
    """
    with readable(path), h5py.File(path) as file:
        data = data_group(path, file)
        spaces = spaces_of(path, data.attrs)
        if spaces is None:
            return
        keys = list(content_keys(spaces, LIBERO in data.attrs))
        for name, demo in data.items():
            where = f"{path}, episode '{name}'"
            with readable(path, f"episode '{name}'"):
                same = not text(demo.attrs, "digest", where) or _is_as_recorded(demo, keys, where)
            if not same:
                raise DataError(f"{where}, is not what was collected: its content has another digest.", _HINT)


def verify_part(path: Path, spaces: Spaces) -> None:
    """The same of an episode that was collected and is not yet among the others.

    Raises:
        DataError: It is damaged.
    """
    with readable(path), h5py.File(path) as file:
        demo = file["demo"]
        libero = is_libero(mapping(demo.attrs, "facts", str(path)))
        same = _is_as_recorded(demo, list(content_keys(spaces, libero)), str(path))
    if not same:
        raise DataError(f"{path} is damaged: its content has another digest.", _HINT)


def _is_as_recorded(demo: h5py.Group, keys: list[str], where: str) -> bool:
    """Whether what an episode holds has the digest that it carries; everything is read."""
    content = hashlib.sha256(str(mapping(demo.attrs, "ep_meta", where)["lang"]).encode())
    for key in [*keys, *further_keys(demo, where)]:
        content.update(key.encode())
        for start in range(0, len(demo[key]), _FRAMES):
            content.update(np.ascontiguousarray(demo[key][start : start + _FRAMES]).tobytes())
    for said in described(demo):
        content.update(said.encode())
    return content.hexdigest() == text(demo.attrs, "digest", where)


def further_keys(demo: h5py.Group, where: str) -> list[str]:
    """Keys that a digest covers besides actions, state and images."""
    written = text(demo.attrs, "further", where) or "[]"
    try:
        keys = json.loads(written)
    except ValueError:
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in demo for key in keys):
        raise DataError(f"{where}: the attribute 'further' is {written!r}, no list of what the episode holds.", _HINT)
    return keys
