"""What makes vectors of feature maps."""

from __future__ import annotations

import torch
from timm.layers import AttentionPool2d
from torch import Tensor, nn

from vpolicy_diffusion_policy.options import Attention, Grid, SpatialSoftmax


class Keypoints(nn.Module):
    """Spatial softmax (Finn et al. 2016) as robomimic has it, temperature 1, and a linear layer.

    Args:
        options: Of the pooling.
        channels: C of the feature map.
        grid: Its height and width.
    """

    places: Tensor

    def __init__(self, options: SpatialSoftmax, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.keypoints = nn.Conv2d(channels, options.keypoints, 1)
        self.linear = nn.Linear(2 * options.keypoints, options.dim)
        rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in grid), indexing="ij")
        self.register_buffer("places", torch.stack([columns, rows], dim=-1).flatten(0, 1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, h, w)`` to ``(N, 1, D)``: of every keypoint x, then y."""
        attention = self.keypoints(features).flatten(2).softmax(dim=-1)
        return self.linear((attention @ self.places).flatten(1)).unsqueeze(1)


class AttentionPooling(nn.Module):
    """CLIP's attention pooling with heads of 64 channels.

    Args:
        channels: C of the feature map.
        grid: Its height and width.
    """

    def __init__(self, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.pool = AttentionPool2d(channels, feat_size=grid, head_dim=min(64, channels))

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, h, w)`` to ``(N, 1, C)``."""
        pooled: Tensor = self.pool(features)
        return pooled.unsqueeze(1)


class Mean(nn.Module):
    """The mean of the map; of a map of one place, that place."""

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, h, w)`` to ``(N, 1, C)``."""
        return features.mean(dim=(2, 3)).unsqueeze(1)


class Places(nn.Module):
    """One token for every place."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, dim)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, h, w)`` to ``(N, h w, D)``."""
        return self.linear(features.flatten(2).transpose(1, 2))


def pooling(options: object, channels: int, grid: tuple[int, int]) -> nn.Module:
    """From feature maps ``(N, C, h, w)`` to tokens ``(N, n, D)``."""
    match options:
        case SpatialSoftmax():
            return Keypoints(options, channels, grid)
        case Attention():
            return AttentionPooling(channels, grid)
        case Grid():
            return Places(channels, options.dim)
        case _:
            return Mean()
