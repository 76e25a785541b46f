"""Random access to the pictures of all episodes, wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vpolicy_lerobot.described import Info
from vpolicy_lerobot.episodes import Entry
from vpolicy_lerobot.pictures import Pictures
from vpolicy_lerobot.videos import Videos


class FramesOnDisk:
    """Every batch decodes what it needs; see `videopolicy.parts.windows.Frames`.

    Args:
        info: Of the dataset.
        entries: The episodes that are read, one after the other.
        rows: At which row of its file each begins.
        cameras: By name, their features.
        tolerance: Seconds by which a frame of a video may be off.
    """

    def __init__(
        self, info: Info, entries: Sequence[Entry], rows: Sequence[int], cameras: Mapping[str, str], tolerance: float
    ) -> None:
        self._entries, self._rows, self._cameras = list(entries), list(rows), dict(cameras)
        self._first = np.cumsum([0, *(entry.length for entry in entries)])
        self._fps, self._features = info.fps, info.features
        self._videos = Videos(tolerance)
        self._pictures: dict[tuple[int, int], Pictures] = {}

    def take(self, camera: str, indices: np.ndarray) -> Tensor:
        """The images at steps ``(K,)`` of the chosen episodes, as ``(K, 3, height, width)`` uint8."""
        steps, order = np.unique(indices, return_inverse=True)
        owner = np.searchsorted(self._first, steps, side="right") - 1
        key = self._cameras[camera]
        size = self._features[key].size
        assert size is not None  # cameras have one
        found = np.empty((len(steps), 3, *size), np.uint8)
        begins = np.flatnonzero(np.diff(owner, prepend=-1))
        for begin, end in zip(begins, [*begins[1:], len(steps)], strict=True):
            episode = int(owner[begin])
            frames = self._read(key, episode, steps[begin:end] - self._first[episode])
            for place, frame in enumerate(frames, int(begin)):
                found[place] = frame.transpose(2, 0, 1)
        return torch.from_numpy(found.take(order.reshape(-1), axis=0))

    def _read(self, key: str, episode: int, frames: np.ndarray) -> list[np.ndarray]:
        """Frames ``(K,)`` of an episode, ascending."""
        entry = self._entries[episode]
        if self._features[key].dtype == "video":
            path, start = entry.videos[key]
            return self._videos.read(path, start + frames / self._fps)
        size = self._features[key].size
        assert size is not None
        reader = self._pictures.setdefault(size, Pictures(size))
        return reader.read(entry.data, key, self._rows[episode] + frames)
