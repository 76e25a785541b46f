"""Reads the parquet files of a dataset, and checks them: one clear error for whatever is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from videopolicy import DataError, listing
from videopolicy.parts.files import ensure_data, system_reason
from vpolicy_lerobot.described import AGAIN


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what pyarrow says about a damaged file into an error that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:
        if found := system_reason(getattr(error, "errno", None)):
            raise DataError(f"{path} cannot be read: {found[0]}.", found[1]) from error
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise DataError(f"{path} is cut short or damaged, or no parquet file: {reason}", AGAIN) from error


def read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a parquet file.

    Raises:
        DataError: It is missing or damaged, or has no such column.
    """
    ensure_there(path)
    with readable(path), pq.ParquetFile(path) as file:
        names = set(file.schema_arrow.names)
        if not names.issuperset(columns):
            missing = [name for name in columns if name not in names]
            raise DataError(f"{path} has no column {listing(missing)}. It has {listing(sorted(names))}.", AGAIN)
        return file.read(columns=list(columns), use_threads=False)


def ensure_there(path: Path) -> None:
    """Check that a file which the metadata name is there.

    Raises:
        DataError: It is not.
    """
    if not path.exists() and not path.is_symlink():
        raise DataError(f"{path} is missing, which the dataset's metadata name.", AGAIN)
    ensure_data(path)


def whole_numbers(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """A column ``(n,)`` of int64.

    Raises:
        DataError: It is none.
    """
    values = numbers(table, name, 1, path)[:, 0]
    if not np.equal(values, np.floor(values)).all():
        raise DataError(f"{path}: '{name}' is not of whole numbers.", AGAIN)
    return values.astype(np.int64)


def numbers(table: pa.Table, name: str, width: int, path: Path) -> np.ndarray:
    """A column as finite ``(n, width)`` float64: of numbers, or of lists of one length.

    Raises:
        DataError: It is something else.
    """
    column = table.column(name)
    with readable(path):
        parts = [_part(chunk, width) for chunk in column.chunks]
        values = np.concatenate(parts) if parts else np.zeros((0, width))
    if column.null_count or values.shape != (len(column), width):
        raise DataError(f"{path}: '{name}' is {column.type}, not {width} numbers a step.", AGAIN)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError(f"{path}: '{name}' is not finite in row {bad[0]}.", "Remove this episode from the dataset.")
    return values


def _part(values: pa.Array, width: int) -> np.ndarray:
    if pa.types.is_fixed_size_list(values.type) or pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        flat = values.flatten()
        same = pa.types.is_fixed_size_list(values.type) or set(values.value_lengths().unique().to_pylist()) <= {width}
        if not same or len(flat) != width * len(values):
            return np.zeros((0, 0))
        return np.asarray(flat.to_numpy(zero_copy_only=False), np.float64).reshape(len(values), width)
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float64).reshape(len(values), -1)
