"""How many frames videos have, counted once and remembered: containers do not always say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from videopolicy import StorageError
from videopolicy.parts.files import written_whole
from vpolicy_video_folders.decoding import count_frames
from vpolicy_video_folders.latents import count_latents

THREADS = 8
FOLDER = "video-folders"
LATENTS = ".pt"
"""Ending of files that hold latents of a video."""
SAVED_EVERY = 2000
"""Videos counted from one saving of what was counted to the next."""


def count_all(
    folder: Path, videos: Sequence[Path], cache: Path | None, advance: Callable[[int], None] = lambda count: None
) -> dict[Path, int]:
    """Frames of videos; those that have not been touched since they were counted are not opened.

    Args:
        folder: What is read; its counts are remembered together.
        videos: Different files.
        cache: Where they are remembered; None remembers nothing.
        advance: Called with the number of videos that have been counted.

    Raises:
        DataError: A video cannot be decoded.
    """
    place = None
    if cache is not None:
        name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
        place = cache / FOLDER / f"{name}.json"
    known = _read(place)
    stamps = {path: _stamp(path) for path in videos}
    found: dict[Path, int] = {}
    fresh = dict(known)
    for path, stamp in stamps.items():
        if (before := known.get(str(path.absolute()))) and before[:2] == stamp:
            found[path] = before[2]
    advance(len(found))
    uncounted = [path for path in videos if path not in found]
    with ThreadPoolExecutor(THREADS) as pool:  # decoding holds no lock
        for start in range(0, len(uncounted), SAVED_EVERY):
            block = uncounted[start : start + SAVED_EVERY]
            for path, count in zip(block, pool.map(_count, block), strict=True):
                found[path] = count
                fresh[str(path.absolute())] = [*stamps[path], count]
                advance(1)
            _write(place, fresh)
    return found


def _count(path: Path) -> int:
    return count_latents(path) if path.suffix == LATENTS else count_frames(path)


def _stamp(path: Path) -> list[int]:
    now = path.stat()
    return [now.st_size, now.st_mtime_ns]


def _read(place: Path | None) -> dict[str, list[int]]:
    if place is None:
        return {}
    with suppress(OSError, ValueError):  # what is lost is time
        stored = json.loads(place.read_bytes())
        if isinstance(stored, dict):
            return {name: one for name, one in stored.items() if isinstance(one, list) and len(one) == 3}
    return {}


def _write(place: Path | None, counted: dict[str, list[int]]) -> None:
    if place is not None:
        with suppress(StorageError, OSError), written_whole(place, shared=True) as part:
            part.write_text(json.dumps(counted), encoding="utf-8")
