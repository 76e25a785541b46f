"""Augmentation of training clips."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

from vpolicy_svd.options import ColorJitter


def jitter(frames: Tensor, options: ColorJitter) -> Tensor:
    """Change the colours of every view of every sample, all of its frames alike.

    Args:
        frames: ``(B, V, T, 3, H, W)`` in [-1, 1].
        options: How much at most.
    """
    transform = v2.ColorJitter(options.brightness, options.contrast, options.saturation, options.hue)
    views = [transform((view + 1) / 2) for view in frames.flatten(0, 1)]
    return torch.stack(views).unflatten(0, frames.shape[:2]) * 2 - 1
