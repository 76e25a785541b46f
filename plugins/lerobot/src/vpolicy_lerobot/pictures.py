"""Pictures that lie in the parquet files themselves, as PNG or JPEG."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from videopolicy import DataError
from vpolicy_lerobot.described import AGAIN
from vpolicy_lerobot.tables import ensure_there, readable

GROUPS = 4
"""Row groups, in which rows are stored together, that a process keeps: older writers make one of a whole file."""


class Pictures:
    """Pictures in any order; every process reads for itself.

    Args:
        size: Height and width of each.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._starts: dict[Path, np.ndarray] = {}
        self._read: OrderedDict[tuple[Path, int, str], pa.Array] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_read": OrderedDict()}

    def read(self, path: Path, key: str, rows: np.ndarray) -> list[np.ndarray]:
        """Some pictures of a file.

        Args:
            path: The parquet file.
            key: The column.
            rows: Which ``(K,)``, ascending.

        Returns:
            K of ``(height, width, 3)`` uint8.

        Raises:
            DataError: They cannot be read, or are of another size.
        """
        if self._process != os.getpid():
            self._read, self._process = OrderedDict(), os.getpid()
        if path not in self._starts:
            ensure_there(path)
            with readable(path), pq.ParquetFile(path) as file:
                counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            self._starts[path] = np.cumsum([0, *counts])
        starts = self._starts[path]
        found = []
        for row in rows:
            group = int(np.searchsorted(starts, row, side="right")) - 1
            stored = self._group(path, group, key)[int(row - starts[group])]
            found.append(self._decoded(stored, f"{path}: '{key}' in row {row}"))
        return found

    def _group(self, path: Path, group: int, key: str) -> pa.Array:
        place = (path, group, key)
        if place not in self._read:
            with readable(path), pq.ParquetFile(path) as file:
                column = file.read_row_group(group, columns=[key], use_threads=False).column(key)
            while len(self._read) >= GROUPS:
                self._read.popitem(last=False)
            self._read[place] = column.combine_chunks()
        self._read.move_to_end(place)
        return self._read[place]

    def _decoded(self, stored: pa.Scalar, where: str) -> np.ndarray:
        value = stored.as_py()
        content = value.get("bytes") if isinstance(value, dict) else None
        if not isinstance(content, bytes):
            raise DataError(
                f"{where} holds no picture.", "Read data whose images are in the parquet files, or in videos."
            )
        try:
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
                picture = np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{where} is damaged, or neither PNG nor JPEG: {error}.", AGAIN) from error
        if picture.shape[:2] != self._size:
            raise DataError(
                f"{where} is {picture.shape[0]}x{picture.shape[1]}, where meta/info.json says "
                f"{self._size[0]}x{self._size[1]}.",
                AGAIN,
            )
        return picture
