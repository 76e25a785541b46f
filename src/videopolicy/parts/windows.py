"""What datasets of recorded episodes share: cutting episodes into windows, holding some out, and statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from videopolicy.contracts.dataset import FieldStatistics
from videopolicy.errors import DataError, listing
from videopolicy.types import Batch, Observation, Window

TRAIN, VALIDATION = "train", "validation"
Padding = Literal["mask", "zero", "repeat"]


class Frames(Protocol):
    """The images of all episodes, one episode after the other."""

    def take(self, camera: str, indices: np.ndarray) -> Tensor:
        """The images at global steps ``(K,)``, as ``(K, 3, height, width)`` uint8."""
        ...


class FramesInMemory:
    """Everything is read at once, into tensors, so that data-loading workers share them instead of copying.

    Args:
        source: Where the images come from.
        cameras: Which to read.
        lengths: Steps of every episode; episodes are read one by one.
    """

    def __init__(self, source: Frames, cameras: Iterable[str], lengths: Sequence[int]) -> None:
        ends = np.cumsum(lengths)
        self._frames: dict[str, Tensor] = {}
        for camera in cameras:
            for begin, end in zip(ends - lengths, ends, strict=True):
                images = source.take(camera, np.arange(begin, end))
                if camera not in self._frames:
                    self._frames[camera] = torch.empty((int(ends[-1]), *images.shape[1:]), dtype=torch.uint8)
                self._frames[camera][begin:end] = images

    def take(self, camera: str, indices: np.ndarray) -> Tensor:
        """The images at steps ``(K,)``, as ``(K, 3, height, width)`` uint8."""
        # numpy's take copies whole frames; torch's index_select takes twenty times longer on bytes.
        return torch.from_numpy(self._frames[camera].numpy().take(indices, axis=0))


class EpisodeWindows:
    """One window for every ``stride``-th step of every episode; see `videopolicy.contracts.dataset.Dataset.windows`.

    Actions of an episode that has none to show are NaN and masked: a loss that overlooks the mask is found out.

    Args:
        window: What a learner needs.
        frames: Where images come from.
        cameras: Their names, in the order of the views.
        instructions: One sentence for every episode.
        actions: Of every episode ``(n, A)`` float32; all NaN where they are absent or not to be seen.
        state: Of every episode ``(n, S)`` float32, or None.
        stride: Steps from one window of an episode to the next.
        ahead: Windows with actions begin only where at least so many further steps of their episode follow.
        padding: Actions past the end of an episode: masked; zeros in recorded units that count; or the episode's last
            action repeated, which counts.
    """

    def __init__(
        self,
        window: Window,
        frames: Frames,
        cameras: Sequence[str],
        instructions: Sequence[str],
        actions: Sequence[np.ndarray],
        state: Sequence[np.ndarray] | None,
        stride: int = 1,
        ahead: int = 0,
        padding: Padding = "mask",
    ) -> None:
        lengths = np.array([len(one) for one in actions])
        self._first = np.repeat(np.cumsum(lengths) - lengths, lengths)  # of the episode that a step belongs to
        self._last = self._first + np.repeat(lengths, lengths) - 1
        self._owner = np.repeat(np.arange(len(lengths)), lengths)
        steps = np.arange(len(self._owner))
        follow = ahead if window.horizon else 0
        self._starts = steps[((steps - self._first) % stride == 0) & (self._last - steps >= follow)]
        self._cameras = list(cameras)
        self._instructions = list(instructions)
        self._supervised = np.array([not np.isnan(one[0]).any() for one in actions])
        self._actions = np.concatenate(actions)
        self._state = np.concatenate(state) if state is not None else None
        self._padding = padding
        self._frames = frames
        self._observed = np.array(window.observed, np.int64)
        self._future = np.array(window.future, np.int64)
        self._future_states = np.array(window.future_states, np.int64)
        self._horizon = np.arange(window.horizon)
        self._past = np.arange(-window.past_actions, 0)

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows at these indices as one batch."""
        now = self._starts[np.asarray(indices, np.int64)]
        observed, _ = self._steps(now, self._observed)
        future, future_mask = self._steps(now, self._future)
        actions, action_mask = self._ahead(now)
        later, later_mask = self._steps(now, self._future_states)
        to_come = None if self._state is None or not len(self._future_states) else self._state[later]
        observation = Observation(
            images=self._images(observed),
            instructions=[self._instructions[owner] for owner in self._owner[now]],
            state=None if self._state is None else torch.from_numpy(self._state[observed]),
            past_actions=torch.from_numpy(self._before(now)) if len(self._past) else None,
        )
        return Batch(
            observation,
            future=self._images(future) if len(self._future) else {},
            future_mask=torch.from_numpy(future_mask) if len(self._future) else None,
            actions=torch.from_numpy(actions) if len(self._horizon) else None,
            action_mask=torch.from_numpy(action_mask) if len(self._horizon) else None,
            future_state=None if to_come is None else torch.from_numpy(to_come),
            future_state_mask=None if to_come is None else torch.from_numpy(later_mask),
        )

    def _ahead(self, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Actions ``(B, H, A)`` from now on, and which of them count."""
        steps, there = self._steps(now, self._horizon)
        actions, supervised = self._actions[steps], self._supervised[self._owner[now], None]
        if self._padding == "mask":
            return actions, there & supervised
        if self._padding == "zero":
            actions[~there & supervised] = 0
        return actions, np.broadcast_to(supervised, there.shape).copy()

    def _before(self, now: np.ndarray) -> np.ndarray:
        """Actions ``(B, P, A)`` before now, NaN where the episode had not begun."""
        steps, _ = self._steps(now, self._past)
        actions = self._actions[steps]
        actions[now[:, None] + self._past < self._first[now, None]] = np.nan
        return actions

    def _steps(self, now: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Global steps ``(B, K)`` at offsets from now, held inside each episode, and which of them are before its
        end."""
        wanted = now[:, None] + offsets
        first, last = self._first[now, None], self._last[now, None]
        return np.clip(wanted, first, last), wanted <= last

    def _images(self, steps: np.ndarray) -> dict[str, Tensor]:
        return {
            camera: self._frames.take(camera, steps.reshape(-1)).unflatten(0, steps.shape) for camera in self._cameras
        }


def require_split(split: str, splits: Iterable[str], hint: str) -> None:
    """Ensure that a dataset has a split.

    Raises:
        DataError: The dataset has none of this name.
    """
    if split not in splits:
        raise DataError(f"The dataset has no split '{split}'; it has {listing(splits)}.", hint)


def held_out(episodes: Sequence[tuple[str, str]], fraction: float) -> list[bool]:
    """Which episodes are for validation.

    They are chosen by a hash of where they lie, so that they stay held out when episodes are added. Of every task at
    least one is held out, unless the fraction is 0, and at least one is kept for training.

    Args:
        episodes: Task of every episode, and where it lies.
        fraction: Of every task's episodes.
    """
    ranked: dict[str, list[tuple[str, int]]] = {}
    for index, (task, place) in enumerate(episodes):
        ranked.setdefault(task, []).append((hashlib.sha256(f"{task}/{place}".encode()).hexdigest(), index))
    chosen: set[int] = set()
    for places in ranked.values():
        wanted = max(round(fraction * len(places)), 1) if fraction else 0
        chosen.update(index for _, index in sorted(places)[: min(wanted, len(places) - 1)])
    return [index in chosen for index in range(len(episodes))]


def field_statistics(values: np.ndarray) -> FieldStatistics:
    """Statistics of ``(n, dimensions)``, in double precision."""
    exact = values.astype(np.float64)
    return FieldStatistics(
        minimum=exact.min(0).tolist(),
        maximum=exact.max(0).tolist(),
        mean=exact.mean(0).tolist(),
        deviation=exact.std(0).tolist(),
    )
