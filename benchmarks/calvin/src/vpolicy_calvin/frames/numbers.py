"""Actions and states of all frames, gathered once.

A million frames are a million files, and opening them all takes minutes. What is needed of them at once is small, and
is kept in parts: a part is named by its frames and by size and time of their files, so that nothing outdated is ever
found.
"""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videopolicy.parts.files import written_whole
from vpolicy_calvin.frames.files import frame_file, missing, opened

PART = 4096
"""Frames of a part: some seconds of work, which is what being killed costs."""
THREADS = 8
"""Files that are opened at once: on a network disk, opening is mostly waiting."""
ACTIONS, STATES = 7, 15


@dataclass(frozen=True)
class Numbers:
    """What is recorded of n frames besides images.

    Args:
        frames: ``(n,)`` their numbers, ascending.
        actions: ``(n, 7)`` float32, ``rel_actions``.
        states: ``(n, 15)`` float32, ``robot_obs``.
        images: ``(n, V)`` uint32, checksums of the images, as the archives have them.
    """

    frames: np.ndarray
    actions: np.ndarray
    states: np.ndarray
    images: np.ndarray


def read_numbers(
    split: Path,
    frames: np.ndarray,
    cameras: Sequence[str],
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda units: None,
) -> Numbers:
    """Gather the numbers of some frames.

    Args:
        split: Folder of the frames.
        frames: ``(n,)`` which, ascending.
        cameras: Whose images are checksummed.
        cache: Where parts are kept; None keeps nothing.
        advance: Called with how many frames more are read.

    Raises:
        DataError: A frame is missing, damaged or not of CALVIN.
        StorageError: A part cannot be written.
    """
    parts = []
    for start in range(0, len(frames), PART):
        chosen = frames[start : start + PART]
        parts.append(_part(split, chosen, cameras, cache))
        advance(len(chosen))
    return Numbers(frames, *(np.concatenate([part[name] for part in parts]) for name in _FIELDS))


_FIELDS = ("actions", "states", "images")


def _part(split: Path, frames: np.ndarray, cameras: Sequence[str], cache: Path | None) -> dict[str, np.ndarray]:
    place = None if cache is None else cache / f"{_key(split, frames, cameras)}.npz"
    if place is not None and place.is_file():
        with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error), np.load(place) as kept:
            return {name: kept[name] for name in _FIELDS}
    with ThreadPoolExecutor(THREADS) as pool:
        rows = list(pool.map(lambda frame: _row(frame_file(split, int(frame)), cameras), frames))
    found = {name: np.stack(column) for name, column in zip(_FIELDS, zip(*rows, strict=True), strict=True)}
    if place is not None:
        with written_whole(place, shared=True) as file, file.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **found)
    return found


def _key(split: Path, frames: np.ndarray, cameras: Sequence[str]) -> str:
    content = hashlib.sha256(f"{frames.tobytes().hex()} {' '.join(cameras)}".encode())
    for frame in frames:
        path = frame_file(split, int(frame))
        try:
            facts = path.stat()
        except OSError:
            raise missing(path) from None
        content.update(f"{facts.st_size} {facts.st_mtime_ns}\n".encode())
    return content.hexdigest()[:32]


def _row(path: Path, cameras: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with opened(path) as content:
        actions, state = (
            _vector(content, name, size) for name, size in (("rel_actions", ACTIONS), ("robot_obs", STATES))
        )
        entries = content.zip
        assert entries is not None  # of a file that is open
        images = np.array([entries.getinfo(f"{camera}.npy").CRC for camera in cameras], np.uint32)
    return actions, state, images


_PARSING = threading.Lock()
"""numpy reads a header with `ast.literal_eval`, which now and then fails in several threads (CPython issue 106905)."""


def _vector(content: np.lib.npyio.NpzFile, name: str, size: int) -> np.ndarray:
    entries = content.zip
    if entries is None or name not in content.files:
        raise KeyError(f"{name} is not in it, only {', '.join(content.files)}")
    raw = io.BytesIO(entries.read(f"{name}.npy"))
    with _PARSING:
        values = np.lib.format.read_array(raw, allow_pickle=False)
    if values.shape != (size,) or values.dtype.kind != "f" or not np.isfinite(values).all():
        raise ValueError(f"'{name}' has shape {values.shape} and type {values.dtype}, not ({size},) of finite numbers")
    return values.astype(np.float32)
