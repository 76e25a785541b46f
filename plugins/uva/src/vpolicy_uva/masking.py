"""What is hidden from the joint model: the five modes, masked cells, and the order in which they are revealed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vpolicy_uva.options import Mode

RATIO_DEVIATION = 0.25


@dataclass(frozen=True)
class Practice:
    """What a mode shows and what it is judged by (section III-D; ``forward_mae_encoder`` and ``forward_loss``).

    Args:
        history: Whether the history is shown.
        future: Whether the future frames are shown, hidden, or hidden in part.
        actions: Whether the actions are shown.
        video: Whether the frames are predicted.
        action: Whether the actions are predicted.
    """

    history: bool = True
    future: Literal["shown", "masked", "hidden"] = "masked"
    actions: bool = False
    video: bool = False
    action: bool = False


MODES: dict[Mode, Practice] = {
    "video": Practice(video=True),
    "forward": Practice(actions=True, video=True),
    "policy": Practice(future="hidden", action=True),
    "inverse": Practice(history=False, future="shown", action=True),
    "full": Practice(video=True, action=True),
}


def mask_ratio(minimum: float) -> float:
    """Share of masked cells: normal around 1, cut at ``minimum`` and 1; from torch's global generator."""
    ratio = torch.empty(1, dtype=torch.float64)
    return float(torch.nn.init.trunc_normal_(ratio, mean=1.0, std=RATIO_DEVIATION, a=minimum, b=1.0))


def masked_cells(rows: int, cells: int, minimum: float) -> Tensor:
    """Which cells of a frame are masked ``(B, S)``: as many in every row, others in every row, the same in all frames.

    Draws come from torch's global generator.
    """
    hidden = math.ceil(cells * mask_ratio(minimum))
    return torch.rand(rows, cells).argsort(dim=1).argsort(dim=1) < hidden


def left_hidden(cells: int, steps: int) -> list[int]:
    """How many cells are still hidden after each step of autoregressive generation, 0 after the last
    (cosine schedule of MaskGIT; ``sample_tokens``).

    Raises:
        ValueError: There are more steps than cells, or none.
    """
    if not 1 <= steps <= cells:
        raise ValueError(f"frames of {cells} cells are revealed in 1 to {cells} steps, not in {steps}")
    left = [cells]
    for step in range(1, steps):
        left.append(max(1, min(left[-1] - 1, math.floor(cells * math.cos(math.pi / 2 * step / steps)))))
    return [*left[1:], 0]
