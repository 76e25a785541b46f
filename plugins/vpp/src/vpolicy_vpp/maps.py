"""Feature maps of several sizes, before they are one row of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class FeatureMaps:
    """Feature maps of the same views and frames.

    Args:
        maps: Each ``(B, V, T, C, h, w)`` with its own C, h and w; the last one's grid is the common one.
        resize: How the others are brought to it.
        pool: Height and width to which the common grid is averaged; None keeps it.
    """

    maps: Sequence[Tensor]
    resize: Literal["nearest", "linear"]
    pool: tuple[int, int] | None = None

    def of(self, maps: Sequence[Tensor]) -> FeatureMaps:
        """Other maps, brought to one grid in the same way."""
        return replace(self, maps=maps)

    def joined(self) -> Tensor:
        """Concatenated on the channels: ``(B, T, V h w, C)``, the views side by side on the token axis."""
        on_grid = self._on_grid()
        return self._tokens(torch.cat(on_grid, dim=1) if len(on_grid) > 1 else on_grid[0])

    def summed(self) -> Tensor:
        """Added, where all have one C: ``(B, T, V h w, C)``."""
        first, *others = self._on_grid()
        for other in others:
            first = first + other
        return self._tokens(first)

    def _on_grid(self) -> list[Tensor]:
        grid = self.maps[-1].shape[-2:]
        mode = "nearest" if self.resize == "nearest" else "bilinear"
        flat = [one.flatten(0, 2) for one in self.maps]
        return [one if one.shape[-2:] == grid else functional.interpolate(one, grid, mode=mode) for one in flat]

    def _tokens(self, maps: Tensor) -> Tensor:
        if self.pool is not None:
            maps = functional.adaptive_avg_pool2d(maps, self.pool)
        return maps.unflatten(0, self.maps[-1].shape[:3]).permute(0, 2, 1, 4, 5, 3).flatten(2, 4)
