"""Random access to the images of all episodes on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from vpolicy_hdf5.attributes import readable
from vpolicy_hdf5.reading import Recorded


class FramesOnDisk:
    """Every batch reads what it needs. HDF5 files must not cross a fork, so each process opens its own."""

    def __init__(self, episodes: Sequence[Recorded], flip: bool) -> None:
        self._episodes = episodes
        self._flip = flip
        self._starts = np.cumsum([0, *(episode.steps for episode in episodes)])
        self._files: dict[Path, h5py.File] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": {}}

    def take(self, camera: str, indices: np.ndarray) -> Tensor:
        height, width = self._episodes[0].image_shapes[camera]
        frames = np.empty((len(indices), height, width, 3), np.uint8)
        owners = np.searchsorted(self._starts, indices, side="right") - 1
        for owner in np.unique(owners):
            episode = self._episodes[owner]
            rows = np.flatnonzero(owners == owner)
            steps, order = np.unique(indices[rows] - self._starts[owner], return_inverse=True)
            key = episode.image_keys[camera]
            with readable(episode.file, f"episode '{episode.demo}', 'obs/{key}'"):
                images = self._file(episode.file)[f"data/{episode.demo}/obs/{key}"]
                frames[rows] = np.concatenate([images[run[0] : run[-1] + 1][run - run[0]] for run in _runs(steps)])[
                    order
                ]
        if self._flip:
            frames = frames[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))

    def _file(self, path: Path) -> h5py.File:
        if self._process != os.getpid():
            self._files, self._process = {}, os.getpid()
        if path not in self._files:
            self._files[path] = h5py.File(path)
        return self._files[path]


def _runs(steps: np.ndarray) -> list[np.ndarray]:
    """Ascending steps cut where a gap is wide: HDF5 reads a stretch much faster than single frames."""
    return np.split(steps, np.flatnonzero(np.diff(steps) > 4) + 1)
