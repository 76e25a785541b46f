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

    def spread(self, images: Tensor) -> Tensor:
        """One image of every view ``(B, V, ...)`` to what every frame of a concatenated clip is conditioned on,
        ``(B, L, ...)``: the image of its own view. Behind the views' stands that of the pad frame, if there is one."""
        frames = images[:, : self.views].repeat_interleave(self.frames, dim=1)
        return torch.cat([images[:, self.views :], frames], dim=1) if self.pad else frames

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
