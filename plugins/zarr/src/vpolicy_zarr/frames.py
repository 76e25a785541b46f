"""Random access to the images of a buffer on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor

from vpolicy_zarr.buffer import as_bytes, images, open_buffer, readable


class FramesOnDisk:
    """Every batch reads what it needs; each process opens the buffer for itself.

    Args:
        path: Of the buffer.
        cameras: Recipe's camera name to key under ``data``.
        first: Steps of the buffer at which the episodes begin that are read, in order.
        lengths: Steps of these episodes.
    """

    def __init__(self, path: Path, cameras: Mapping[str, str], first: np.ndarray, lengths: np.ndarray) -> None:
        self._path = path
        self._cameras = dict(cameras)
        begins = np.cumsum(lengths) - lengths
        self._steps = np.arange(lengths.sum()) + np.repeat(first - begins, lengths)
        self._opened: dict[str, zarr.Array] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": {}}

    def take(self, camera: str, indices: np.ndarray) -> Tensor:
        """The images at steps ``(K,)`` of the chosen episodes, as ``(K, 3, height, width)`` uint8."""
        steps, order = np.unique(self._steps[indices], return_inverse=True)
        return torch.from_numpy(np.ascontiguousarray(self._read(camera, steps)[order].transpose(0, 3, 1, 2)))

    def _read(self, camera: str, steps: np.ndarray) -> np.ndarray:
        key = self._cameras[camera]
        if self._process != os.getpid():
            self._opened, self._process = {}, os.getpid()
        if camera not in self._opened:
            root = open_buffer(self._path)
            self._opened[camera] = images(root, self._path, key, int(root["meta/episode_ends"][-1]))
        with readable(self._path, f"'data/{key}'"):
            stored, begin, end = self._opened[camera], int(steps[0]), int(steps[-1]) + 1
            # A stretch is read several times faster than the same steps one by one.
            values = np.asarray(stored[begin:end] if end - begin == len(steps) else stored.oindex[steps])
        return as_bytes(values, self._path, key)
