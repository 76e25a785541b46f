"""Reads a replay buffer, and checks it: one clear error for whatever is wrong with it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np
import zarr
from zarr.storage import ZipStore

from videopolicy import DataError, did_you_mean, listing
from videopolicy.parts.files import ensure_data, system_reason
from videopolicy.parts.pictures import oddity
from vpolicy_zarr.chunks import left_out

# What zarr, numcodecs and zipfile raise on damaged input; blosc gives even SystemError for a negative size.
_FOREIGN = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    MemoryError,
    SystemError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def readable(path: Path, what: str = "") -> Iterator[None]:
    """Turn what zarr says about a damaged buffer into an error that names it."""
    try:
        yield
    except _FOREIGN as error:
        place = f"{path}{f', {what},' if what else ''} cannot be read"
        if reason := system_reason(getattr(error, "errno", None)):
            file = getattr(error, "filename", None)
            raise DataError(f"{place}: {reason[0]}{f' ({file})' if file else ''}.", reason[1]) from error
        if "codec" in str(error).lower() or "codec" in type(error).__name__.lower():
            raise DataError(
                f"{place}: it is compressed in a way that is not installed: {str(error) or repr(error)}",
                "Install the package with this codec beside numcodecs, or write the buffer again with another one.",
            ) from error
        raise DataError(
            f"{place}: {str(error) or repr(error)}",
            "The buffer is cut short or damaged, or no zarr: copy or download it again.",
        ) from error


def open_buffer(path: Path) -> zarr.Group:
    """The root of a buffer.

    Raises:
        DataError: There is none.
    """
    if not path.exists() and not path.is_symlink():
        raise DataError(f"The dataset {path} does not exist.", "Correct `path` in the recipe's data section.")
    ensure_data(path)
    with readable(path):
        return zarr.open_group(ZipStore(path, mode="r") if path.is_file() else path, mode="r")


def array(root: zarr.Group, path: Path, name: str, option: str) -> zarr.Array:
    """An array of the buffer, such as ``data/img``.

    Args:
        root: Of the buffer.
        path: Of the buffer, for messages.
        name: Of the array.
        option: The recipe's field that names it, for messages.

    Raises:
        DataError: There is none of this name.
    """
    with readable(path, f"'{name}'"):
        found = root.get(name)
        if isinstance(found, zarr.Array):
            return found
        group = root.get(name.rsplit("/", 1)[0])
        known = [f"data/{key}" for key in group.array_keys()] if isinstance(group, zarr.Group) else []
    raise DataError(
        f"{path} has no array '{name}'.{did_you_mean(name, known)} There is: {listing(known)}.",
        f"Correct `{option}` in the recipe's data section, or convert the data to this layout: data/<key> and "
        "meta/episode_ends.",
    )


def episode_ends(root: zarr.Group, path: Path) -> np.ndarray:
    """Steps up to the end of every episode.

    Raises:
        DataError: They do not ascend from above 0.
    """
    stored = array(root, path, "meta/episode_ends", "path")
    with readable(path, "'meta/episode_ends'"):
        left_out(stored, path)
        ends = np.asarray(stored[...])
    if ends.ndim == 1 and ends.dtype.kind == "u":  # unsigned differences are never negative
        ends = ends.astype(np.int64)
    if ends.ndim != 1 or not len(ends) or ends.dtype.kind != "i" or (np.diff(ends, prepend=0) <= 0).any():
        raise DataError(
            f"{path}: 'meta/episode_ends' must be whole numbers that ascend from above 0.", "Record the data again."
        )
    return ends.astype(np.int64)


def numbers(root: zarr.Group, path: Path, key: str, steps: int, option: str) -> np.ndarray:
    """A finite ``(steps, dimensions)`` float32 array.

    Raises:
        DataError: It is something else.
    """
    name = f"data/{key}"
    stored = array(root, path, name, option)
    if stored.ndim != 2 or stored.shape[0] != steps or stored.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: '{name}' has shape {stored.shape} and type {stored.dtype}, not ({steps}, dimensions) of numbers.",
            f"Correct `{option}` in the recipe's data section, or record the data again.",
        )
    with readable(path, f"'{name}'"):
        left_out(stored, path)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, which is found
            values = np.asarray(stored[...]).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError(f"{path}: '{name}' is not finite at step {bad[0]}.", "Remove this episode from the buffer.")
    return values


def images(root: zarr.Group, path: Path, key: str, steps: int) -> zarr.Array:
    """An array of images ``(steps, height, width, 3)``.

    Raises:
        DataError: It is something else.
    """
    name = f"data/{key}"
    stored = array(root, path, name, "cameras")
    number = stored.dtype == np.uint8 or stored.dtype.kind == "f"
    if stored.ndim != 4 or stored.shape[0] != steps or stored.shape[3] != 3 or not number or not prod(stored.shape):
        odd = None if number and stored.shape[-1:] == (3,) else oddity(stored.shape, stored.dtype, lambda: stored[0])
        what, hint = odd or ("", "Choose another key for this camera.")
        raise DataError(
            f"{path}: '{name}' has shape {stored.shape} and type {stored.dtype}, "
            f"not ({steps}, height, width, 3) of bytes or of floats from 0 to 255{f': {what}' if what else ''}.",
            hint,
        )
    return stored


def ensure_bright(stored: zarr.Array, path: Path) -> None:
    """Check that floats go up to 255 and not up to 1: the first image may be black, but not all of them.

    Raises:
        DataError: Some are above 0, and none is above 1.
    """
    if stored.dtype.kind != "f":
        return
    brightest, length = 0.0, (stored.shards or stored.chunks)[0]
    with readable(path, f"'{stored.path}'"):
        for start in range(0, stored.shape[0], length):
            # A NaN is said where images are read as bytes.
            brightest = max(brightest, float(np.nanmax(stored[start : start + length], initial=0)))
            if brightest > 1:
                return
    if brightest > 0:
        raise DataError(
            f"{path}: '{stored.path}' are floats up to {brightest:g}, not up to 255.",
            "Convert them to bytes or to floats from 0 to 255.",
        )


def as_bytes(values: np.ndarray, path: Path, key: str) -> np.ndarray:
    """Images of bytes, or of floats from 0 to 255, as bytes.

    Raises:
        DataError: Floats are not from 0 to 255.
    """
    if values.dtype == np.uint8:
        return values
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):
        raise DataError(
            f"{path}: images 'data/{key}' range from {low:g} to {high:g}, not from 0 to 255.",
            "Convert them to bytes or to floats from 0 to 255.",
        )
    return values.round().astype(np.uint8)
