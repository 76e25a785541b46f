"""Windows of videos: stretched over a whole clip, or cut from it at steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from videopolicy import Batch, Observation, Window
from vpolicy_video_folders.clips import Clip
from vpolicy_video_folders.decoding import read_frames
from vpolicy_video_folders.latents import read_latents
from vpolicy_video_folders.lengths import THREADS


class Frames(Protocol):
    """The frames of all clips, or their latents."""

    def take(self, camera: int, clip: int, indices: np.ndarray) -> Tensor:
        """Frames ``(K,)`` of a clip as ``(K, 3, height, width)`` uint8, or latents ``(K, c, h, w)`` float32."""
        ...


class FramesOnDisk:
    """Every batch decodes its own.

    Args:
        videos: Files of the cameras of every clip.
        size: Height and width of the frames.
    """

    def __init__(self, videos: Sequence[tuple[Path, ...]], size: tuple[int, int]) -> None:
        self._videos, self._size = videos, size

    def take(self, camera: int, clip: int, indices: np.ndarray) -> Tensor:
        """Frames ``(K,)`` of a clip as ``(K, 3, height, width)`` uint8."""
        return read_frames(self._videos[clip][camera], indices, self._size)


class LatentsOnDisk:
    """Latents in place of frames.

    Args:
        files: Of the cameras of every clip.
    """

    def __init__(self, files: Sequence[tuple[Path, ...]]) -> None:
        self._files = files

    def take(self, camera: int, clip: int, indices: np.ndarray) -> Tensor:
        """Latents ``(K, c, h, w)`` of the frames ``(K,)`` of a clip."""
        return read_latents(self._files[clip][camera])[torch.from_numpy(indices)]


class DecodedFrames:
    """All frames are decoded at once.

    Args:
        source: Where they come from.
        cameras: How many.
        lengths: Frames of every clip.
    """

    def __init__(self, source: Frames, cameras: int, lengths: np.ndarray) -> None:
        def clip(number: int) -> list[Tensor]:
            every = np.arange(lengths[number])
            return [source.take(camera, number, every) for camera in range(cameras)]

        with ThreadPoolExecutor(THREADS) as pool:
            self._frames = list(pool.map(clip, range(len(lengths))))

    def take(self, camera: int, clip: int, indices: np.ndarray) -> Tensor:
        """Frames ``(K,)`` of a clip as ``(K, 3, height, width)`` uint8."""
        return self._frames[clip][camera][torch.from_numpy(indices)]


class ClipWindows:
    """Windows without actions; where a window asks for actions or a state, they have no dimensions, or are not there.

    Args:
        window: What a learner needs.
        clips: The recordings.
        lengths: Their frames ``(clips,)``.
        cameras: Names of the views.
        frames: Where pictures come from.
        stride: Frames from one window of a clip to the next; None: one window, stretched over the whole clip.
    """

    def __init__(
        self,
        window: Window,
        clips: Sequence[Clip],
        lengths: np.ndarray,
        cameras: Sequence[str],
        frames: Frames,
        stride: int | None,
    ) -> None:
        self._texts = [one.text for one in clips]
        self._lengths, self._cameras, self._frames, self._whole = lengths, list(cameras), frames, stride is None
        counts = np.ones(len(clips), np.int64) if stride is None else -(-lengths // stride)
        self._owner = np.repeat(np.arange(len(clips)), counts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        self._starts = (np.arange(len(self._owner)) - first) * (stride or 1)
        self._window = window
        self._observed = np.array(window.observed, np.int64)
        self._future = np.array(window.future, np.int64)

    def __len__(self) -> int:
        return len(self._owner)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows at these indices as one batch."""
        chosen = np.asarray(indices, np.int64)
        owner, starts = self._owner[chosen], self._starts[chosen]
        seen = len(self._observed)
        offsets = np.concatenate([self._observed, self._future])
        frames = np.stack([self._frames_at(row, start, offsets) for row, start in zip(owner, starts, strict=True)])
        images: dict[str, Tensor] = {}
        for number, name in enumerate(self._cameras):
            rows = [self._frames.take(number, int(row), one) for row, one in zip(owner, frames, strict=True)]
            images[name] = torch.stack(rows)
        horizon, past = self._window.horizon, self._window.past_actions
        latents = {name: one for name, one in images.items() if one.is_floating_point()}
        images = {name: one for name, one in images.items() if name not in latents}
        return Batch(
            Observation(
                {name: one[:, :seen] for name, one in images.items()},
                [self._texts[row] for row in owner],
                past_actions=torch.zeros(len(owner), past, 0) if past else None,
            ),
            future={name: one[:, seen:] for name, one in images.items()} if len(self._future) else {},
            future_mask=self._there(owner, starts, self._future) if len(self._future) else None,
            actions=torch.zeros(len(owner), horizon, 0) if horizon else None,
            action_mask=self._there(owner, starts, np.arange(horizon)) if horizon else None,
            latents=latents,
        )

    def _frames_at(self, row: int, start: int, offsets: np.ndarray) -> np.ndarray:
        """Numbers of the frames at offsets from now, held inside the clip."""
        length = int(self._lengths[row])
        if not self._whole:
            return np.clip(start + offsets, 0, length - 1)
        unit = math.gcd(*map(int, offsets))
        last = int(offsets.max())
        if not last:
            return np.zeros(len(offsets), np.int64)
        stretched = np.linspace(0, length - 1, last // unit + 1).astype(np.int64)  # the official loader's rounding
        return stretched[np.maximum(offsets, 0) // unit]

    def _there(self, owner: np.ndarray, starts: np.ndarray, offsets: np.ndarray) -> Tensor:
        """Which offsets ``(B, K)`` are before the end of their clip."""
        there = starts[:, None] + offsets < self._lengths[owner][:, None]
        return torch.from_numpy(there | self._whole)
