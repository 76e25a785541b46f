"""Random access to the images of all episodes on disk."""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from vpolicy_hdf5.faults import readable
from vpolicy_hdf5.reading import Recorded
from vpolicy_hdf5.whole import ensure_filters

_MOST_FILES = 128


class FramesOnDisk:
    """Every batch reads what it needs. HDF5 files must not cross a fork, so each process opens its own.

    Args:
        episodes: All of them.
        mirror: Whether left and right are exchanged at the end.
    """

    def __init__(self, episodes: Sequence[Recorded], mirror: bool = False) -> None:
        self._episodes = episodes
        self._mirror = mirror
        self._starts = np.cumsum([0, *(episode.steps for episode in episodes)])
        self._files: OrderedDict[Path, h5py.File] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": OrderedDict()}

    def take(self, camera: str, indices: np.ndarray) -> Tensor:
        height, width = self._episodes[0].image_shapes[camera]
        frames = np.empty((len(indices), height, width, 3), np.uint8)
        owners = np.searchsorted(self._starts, indices, side="right") - 1
        for owner in np.unique(owners):
            episode = self._episodes[owner]
            rows = np.flatnonzero(owners == owner)
            steps, order = np.unique(indices[rows] - self._starts[owner], return_inverse=True)
            key = episode.image_keys[camera]
            place = f"episode '{episode.demo}', 'obs/{key}'"
            with readable(episode.file, place):
                images = self._file(episode.file)[f"data/{episode.demo}/obs/{key}"]
                ensure_filters(images, f"{episode.file}, {place},")  # another process has loaded none yet
                found = np.concatenate([images[run[0] : run[-1] + 1][run - run[0]] for run in _runs(steps)])
            frames[rows] = _upright(found, episode.orientation)[order]
        if self._mirror:
            frames = frames[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))

    def _file(self, path: Path) -> h5py.File:
        if self._process != os.getpid():
            self._files, self._process = OrderedDict(), os.getpid()
        if path not in self._files:
            while len(self._files) >= _most_files():
                _, longest_unused = self._files.popitem(last=False)
                longest_unused.close()
            self._files[path] = h5py.File(path)
        self._files.move_to_end(path)
        return self._files[path]


def _upright(images: np.ndarray, stored: str) -> np.ndarray:
    """``(n, height, width, 3)`` the right way up and round."""
    if stored == "bottom-up":
        return images[:, ::-1]
    return images[:, :, ::-1] if stored == "mirrored" else images


def _most_files() -> int:
    """How many files one reader keeps open: a quarter of what the process may, so that others have some too."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FILES if allowed == resource.RLIM_INFINITY else max(1, min(_MOST_FILES, allowed // 4))


def _runs(steps: np.ndarray) -> list[np.ndarray]:
    """Ascending steps cut where a gap is wide: HDF5 reads a stretch much faster than single frames."""
    return np.split(steps, np.flatnonzero(np.diff(steps) > 4) + 1)
