"""Random access to the images of all episodes: from memory, or from disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from vpolicy_hdf5.attributes import readable
from vpolicy_hdf5.reading import Recorded


class FramesInMemory:
    """Everything is read at once, into tensors, so that data-loading workers share them instead of copying."""

    def __init__(self, episodes: Sequence[Recorded], flip: bool) -> None:
        steps = sum(episode.steps for episode in episodes)
        self._frames = {
            camera: torch.empty((steps, 3, *shape), dtype=torch.uint8)
            for camera, shape in episodes[0].image_shapes.items()
        }
        start = 0
        for path, group in groupby(episodes, key=lambda episode: episode.file):
            with readable(path), h5py.File(path) as file:
                for episode in group:
                    for camera, key in episode.image_keys.items():
                        with readable(path, f"episode '{episode.demo}', 'obs/{key}'"):
                            images = file[f"data/{episode.demo}/obs/{key}"][()]
                        images = np.ascontiguousarray(images[:, ::-1]) if flip else images
                        self._frames[camera][start : start + episode.steps] = torch.from_numpy(images).movedim(3, 1)
                    start += episode.steps

    def take(self, camera: str, indices: np.ndarray) -> Tensor:
        # numpy's take copies whole frames; torch's index_select takes twenty times longer on bytes.
        return torch.from_numpy(self._frames[camera].numpy().take(indices, axis=0))


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
