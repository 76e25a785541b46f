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
    return torch.stack([resized(view, size) for view in images.values()], dim=1).float() / 127.5 - 1


def resized(view: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames of one camera ``(B, T, 3, height, width)`` uint8 at another size, as `stack_views` brings them to it."""
    if tuple(view.shape[-2:]) == tuple(size):
        return view
    from torchvision.transforms.v2 import functional as transforms  # takes seconds to import

    return transforms.resize(view.flatten(0, 1), list(size), antialias=True).unflatten(0, view.shape[:2])


def to_bytes(frames: Tensor) -> Tensor:
    """Frames in [-1, 1] to uint8, rounded and clipped."""
    return ((frames.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
