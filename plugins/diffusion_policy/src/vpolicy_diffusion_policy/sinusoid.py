"""The embedding of timesteps that both networks have."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoid(timestep: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of timesteps ``(B,)`` to ``(B, width)``, rates falling to 1/10000 (``SinusoidalPosEmb``)."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=timestep.device) * (-math.log(10000) / (half - 1)))
    angles = timestep[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
