"""Means over what is there."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is true; 0, with a gradient of 0, where it is true nowhere.

    Masked values may be NaN: they are chosen away and not multiplied by 0.

    Args:
        values: ``(..., C)``, or ``(...)``.
        mask: Boolean, of a shape that broadcasts to that of the values.
    """
    counted = mask.expand_as(values)
    return torch.where(counted, values, 0).sum() / counted.sum().clamp(min=1)


def without_masked(values: Tensor, mask: Tensor) -> Tensor:
    """Values ``(..., C)`` with zeros where the mask ``(...)`` is false: what is masked may be NaN."""
    return torch.where(mask.unsqueeze(-1), values, 0)
