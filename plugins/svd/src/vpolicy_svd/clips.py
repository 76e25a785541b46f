"""How the frames of several views become the clips that the network sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClipLayout:
    """Views as clips of their own, or one behind the other in one clip.

    Args:
        views: V.
        frames: T, frames of a view.
        concatenated: Whether all views are one clip.
        pad: Whether the first frame of the first view is put before a concatenated clip.
    """

    views: int
    frames: int
    concatenated: bool
    pad: bool

    @property
    def clips(self) -> int:
        """K, clips of one sample."""
        return 1 if self.concatenated else self.views

    @property
    def length(self) -> int:
        """L, frames of a clip."""
        return self.views * self.frames + self.pad if self.concatenated else self.frames

    @property
    def leading(self) -> tuple[int, ...]:
        """The axes of one sample before channels, height and width: ``(V, T)`` or ``(L,)``."""
        return (self.length,) if self.concatenated else (self.views, self.frames)

    @property
    def images(self) -> list[int]:
        """For every frame of a sample's clips, in their order, the number of the image that it is conditioned on.

        Image v is the present frame of view v; a pad frame has one more, which is that of the first view again.
        """
        of_views = [view for view in range(self.views) for _ in range(self.frames)]
        return [self.views] * self.pad + of_views

    def of_views(self, frames: Tensor) -> Tensor:
        """``(B, V, T, ...)`` to ``(B, *leading, ...)``."""
        if not self.concatenated:
            return frames
        joined = frames.flatten(1, 2)
        return torch.cat([frames[:, 0, :1], joined], dim=1) if self.pad else joined

    def by_view(self, clips: Tensor) -> Tensor:
        """``(B, *leading, ...)`` to ``(B, V, T, ...)``, without the pad frame."""
        return clips[:, int(self.pad) :].unflatten(1, (self.views, self.frames)) if self.concatenated else clips

    def fold(self, clips: Tensor) -> Tensor:
        """``(B, *leading, ...)`` to what the network takes, ``(B K, L, ...)``."""
        return clips if self.concatenated else clips.flatten(0, 1)

    def unfold(self, clips: Tensor) -> Tensor:
        """``(B K, L, ...)`` to ``(B, *leading, ...)``."""
        return clips if self.concatenated else clips.unflatten(0, (-1, self.views))
