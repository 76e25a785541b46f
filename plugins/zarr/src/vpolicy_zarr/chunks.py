"""Checks that the chunks of an array are there: zarr gives the fill value for those that are not.

The format does not tell a chunk that was lost from one that was left out on purpose because it holds nothing but the
fill value (``write_empty_chunks=False``, which newer versions of zarr do by themselves). A missing chunk is therefore
an error, with one exception: chunks of one image each, of which the first of an episode is missing. Cameras that show
nothing before the first step leave exactly this; it is read as it would be, and said.
"""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Iterator
from math import ceil, prod
from pathlib import Path

import numpy as np
import zarr

from videopolicy import DataError
from videopolicy.parts.files import ensure_data

_ENOUGH = 100_000
"""Missing chunks after which no further ones are looked for."""


def ensure_regular_files(path: Path) -> None:
    """Check that a buffer holds files and folders alone: reading a named pipe would wait for ever.

    Raises:
        DataError: There is something else.
    """
    ensure_data(path)
    if not path.is_dir():
        return
    for folder, _, _ in os.walk(path):
        with os.scandir(folder) as entries:
            for entry in entries:
                if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                    ensure_data(Path(entry.path))


def left_out(array: zarr.Array, path: Path, starts: np.ndarray | None = None) -> np.ndarray:
    """Check that an array's chunks are there.

    Args:
        array: Of the buffer.
        path: Of the buffer.
        starts: First steps of the episodes, for images.

    Returns:
        Steps ``(K,)`` of images that were left out as black, if any.

    Raises:
        DataError: Chunks are missing.
    """
    name = array.path
    there = set(_files(path, name))
    outer = array.shards or array.chunks
    grid = [range(ceil(size / length)) for size, length in zip(array.shape, outer, strict=True)]
    places = (place for place in itertools.product(*grid) if array.metadata.encode_chunk_key(place) not in there)
    missing = list(itertools.islice(places, _ENOUGH))  # a damaged shape may ask for more than memory holds
    if not missing:
        return np.zeros(0, np.int64)
    steps = np.unique([place[0] * outer[0] for place in missing])
    if starts is not None and outer[0] == 1 and array.fill_value is not None and np.isin(steps, starts).all():
        return steps
    many = f"{_ENOUGH} and more" if len(missing) == _ENOUGH else len(missing)
    raise DataError(
        f"{path}: '{name}' has holes: {many} of its {prod(map(len, grid))} chunks are missing, the first of them "
        f"'{array.metadata.encode_chunk_key(missing[0])}' with step {steps[0]}; they would be read as "
        f"{array.fill_value}.",
        "Copy or download the buffer again. If these steps were recorded so and zarr has left their chunks out, write "
        "the array again with `zarr.config.set({'array.write_empty_chunks': True})`.",
    )


def _files(path: Path, name: str) -> Iterator[str]:
    """Files of an array, as paths relative to it."""
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            yield from (entry.removeprefix(f"{name}/") for entry in archive.namelist() if entry.startswith(f"{name}/"))
        return
    root = path / name
    for folder, _, names in os.walk(root):
        inside = Path(folder).relative_to(root)
        yield from ((inside / file).as_posix() for file in names)
