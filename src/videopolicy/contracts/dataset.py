"""Recorded episodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from videopolicy.spaces import Spaces
from videopolicy.types import Batch, Window

if TYPE_CHECKING:
    from videopolicy.seeds import StepOrder


@dataclass
class Episode:
    """One recorded episode of n steps. Frame t was seen before action t.

    Args:
        task: Name of the task.
        instruction: The sentence that describes it.
        images: Per camera ``(n, height, width, 3)`` uint8.
        actions: ``(n, A)`` float32.
        state: ``(n, S)`` float32 or None.
        initial_state: Hash of the simulator's state before the first step.
        success: Whether the task was solved.
        attempt: Index of the initial state.
        states: ``(n, s)`` float64, the simulator's own states before every action; None where it gives none.
        arrays: What else was measured before every action, ``(n, d)`` floating point by key, such as ``robot_states``
            or ``obs/joint_states``.
        facts: What else is known of the episode. ``expert`` says whose actions these are, ``scripted`` or another
            word; it is empty where nobody says.
    """

    task: str
    instruction: str
    images: dict[str, np.ndarray]
    actions: np.ndarray
    state: np.ndarray | None
    initial_state: str
    success: bool
    attempt: int
    states: np.ndarray | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class FieldStatistics:
    """Per-dimension statistics of a vector field, as lists of floats."""

    minimum: list[float]
    maximum: list[float]
    mean: list[float]
    deviation: list[float]


@dataclass(frozen=True)
class Statistics:
    """Statistics over the training split."""

    actions: FieldStatistics
    state: FieldStatistics | None = None


class Windows(Protocol):
    """Random access to training windows."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows at these indices as one batch."""
        ...


@runtime_checkable
class DrawnWindows(Windows, Protocol):
    """Windows that are not all seen equally often, and say themselves in which order."""

    def order(self, batch_size: int, seed: int) -> StepOrder:
        """Which of them every step of a stage sees; a function of the seed and the step alone.

        Args:
            batch_size: Windows a step, over all devices.
            seed: Of the stage.
        """
        ...


class Dataset(ABC):
    """Recorded episodes that can be cut into windows. Knows nothing of models."""

    @property
    @abstractmethod
    def spaces(self) -> Spaces:
        """Cameras, state and actions as recorded."""

    @property
    @abstractmethod
    def splits(self) -> dict[str, int]:
        """Number of episodes of every split; ``train`` is always there."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was guessed or changed when the data were read, one sentence each: it is said and recorded."""
        return ()

    @property
    def encoder(self) -> str | None:
        """What has encoded the frames, where windows hold latents in place of them: the digest of what
        `LearnerComponent.frame_encoder` says, empty where nobody knows; None for pictures."""
        return None

    @abstractmethod
    def fingerprint(self, actions: bool = True) -> str:
        """Hash of the recorded content and of how it is cut into windows.

        Args:
            actions: Whether the windows hold actions; without, which of them are shown and how they are padded does
                not matter, so that recipes which differ in nothing else share what is learned from videos.
        """

    def files(self) -> Sequence[Path]:
        """The files whose content decides what is learned, where `fingerprint` does not read every byte of them.

        They are read once, and again when they have been touched; what they hold is then part of all keys.
        """
        return ()

    def verify(self) -> None:
        """Read everything, and compare it with the digests that the data themselves carry, where they carry any.

        Raises:
            DataError: They differ; the message says where.
        """
        return

    @abstractmethod
    def statistics(self) -> Statistics:
        """Statistics over the training split."""

    @abstractmethod
    def windows(self, window: Window, split: str = "train") -> Windows:
        """All windows of a split: one for every step of every episode, unless the dataset's options skip some.

        Frames past the end repeat the last frame with a False mask; actions past the end are masked. Clips without
        actions have NaN ones, all of them masked.
        """

    @abstractmethod
    def initial_states(self) -> frozenset[str]:
        """Hashes of the initial states of all episodes."""


class EpisodeWriter(Protocol):
    """Writes collected episodes, each of them safely on disk before the next."""

    def present(self) -> dict[str, dict[int, bool]]:
        """Per task the attempts that are already recorded, and whether each was a success."""
        ...

    def add(self, episode: Episode) -> None:
        """Record one episode; a failed one is remembered as an attempt and its frames are dropped."""
        ...

    def finish(self, chosen: dict[str, list[int]]) -> Path:
        """Assemble the chosen attempts of every task into the final layout, and return its folder."""
        ...
