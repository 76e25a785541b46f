"""Frames that were encoded ahead of training, where a video model's autoencoder is frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@runtime_checkable
class EncodesFrames(Protocol):
    """A learner whose frames are encoded one by one, by weights that training leaves as they are."""

    def frame_latents(self, frames: Tensor) -> Tensor:
        """Frames ``(N, 3, height, width)`` uint8 as training sees them, ``(N, c, h, w)``.

        What is drawn comes from torch's global generator.
        """
        ...


@dataclass(frozen=True)
class EncodedRun:
    """Consecutive windows of one camera that share frames.

    Args:
        latents: ``(U, c, h, w)`` float32, every different frame once.
        frames: ``(W, T)`` int64, which of them each window shows: observed and future ones.
        there: ``(W, F)`` bool, False for future frames past the end.
        texts: One sentence for every window.
    """

    latents: Tensor
    frames: np.ndarray
    there: np.ndarray
    texts: tuple[str, ...]


class LatentWriter(Protocol):
    """Keeps what was encoded of one camera of one split. Several processes may write different blocks at once."""

    def present(self, block: int) -> bool:
        """Whether a block is safely on disk."""
        ...

    def add(self, block: int, runs: Sequence[EncodedRun]) -> None:
        """Write a block, which is there whole or not at all."""
        ...

    def finish(self, blocks: int, facts: Mapping[str, Any]) -> None:
        """Put all blocks together, in their order.

        Args:
            blocks: How many there are.
            facts: What else is to be known of them, plain data.
        """
        ...
