"""One scale of noise for all parts: the level is the noise-to-signal ratio sigma.

A noisy sample at level s is ``x0 + s * n`` with unit normal n, up to the scale that a
parametrisation gives it. Every parametrisation converts to it, so one part's schedule can drive another's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def from_alphas_cumprod(alphas_cumprod: Tensor) -> Tensor:
    """DDPM: ``sqrt((1 - a) / a)`` for cumulative products a in (0, 1]."""
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


def from_flow_time(time: Tensor) -> Tensor:
    """Flow matching with ``x_t = (1 - t) x0 + t n``: ``t / (1 - t)`` for t in [0, 1)."""
    return time / (1 - time)


def exponential(count: int, low: float, high: float) -> Tensor:
    """``count`` levels from ``high`` to ``low``, equally spaced in the logarithm, and a final 0.

    Returns:
        ``(count + 1,)`` descending.
    """
    import torch

    ramp = torch.linspace(math.log(high), math.log(low), count).exp()
    return torch.cat([ramp, ramp.new_zeros(1)])


def karras(count: int, low: float, high: float, rho: float = 7.0) -> Tensor:
    """Karras et al. 2022, equation 5, and a final 0.

    Returns:
        ``(count + 1,)`` descending.
    """
    import torch

    ramp = torch.linspace(0, 1, count)
    levels = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return torch.cat([levels, levels.new_zeros(1)])
