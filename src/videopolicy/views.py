"""Camera images as the stacked views that models take, and back."""

from __future__ import annotations

import torch
from torch import Tensor


def stack_views(images: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    """Resize every camera and stack the views in the order of the mapping.

    Resizing is bilinear with antialiasing on bytes, as the official codes do it.

    Args:
        images: Per camera ``(B, T, 3, height, width)`` uint8.
        size: Height and width of the result.

    Returns:
        ``(B, V, T, 3, H, W)`` float in [-1, 1].
    """
    views = []
    for view in images.values():
        if tuple(view.shape[-2:]) != tuple(size):
            from torchvision.transforms.v2 import functional as transforms  # takes seconds to import

            batch, frames = view.shape[:2]
            view = transforms.resize(view.flatten(0, 1), list(size), antialias=True).unflatten(0, (batch, frames))
        views.append(view)
    return torch.stack(views, dim=1).float() / 127.5 - 1


def to_bytes(frames: Tensor) -> Tensor:
    """Frames in [-1, 1] to uint8, rounded and clipped."""
    return ((frames.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
