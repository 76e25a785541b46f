"""One policy asked by several robots at once: every row of a batch is one robot's, with noise and memory of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from videopolicy.evaluation.acting import Actor, Seen, stack_observations
from videopolicy.types import RowGenerator


class Asked(NamedTuple):
    """What a policy is asked for one robot.

    Args:
        seen: What the robot sees.
        noise: From which nobody else draws.
    """

    seen: Seen
    noise: torch.Generator


def act_for(actor: Actor, asked: Mapping[int, Asked], size: int) -> dict[int, np.ndarray | Exception]:
    """Plan for all who ask in one forward pass; where that fails, for each of them alone, so that nobody suffers from
    another's observation.

    Args:
        actor: The policy.
        asked: By row of the batch, by which the policy remembers a robot.
        size: Rows of the pass, more than the highest of theirs.

    Returns:
        By row its chunk ``(H, A)`` in physical units, or why there is none.
    """
    before = {row: one.noise.get_state() for row, one in asked.items()}
    try:
        return dict(_passed(actor, asked, size))
    except Exception as error:
        if len(asked) == 1:
            return dict.fromkeys(asked, error)
    found: dict[int, np.ndarray | Exception] = {}
    for row, one in asked.items():
        one.noise.set_state(before[row])
        found |= act_for(actor, {row: one}, size)
    return found


def _passed(actor: Actor, asked: Mapping[int, Asked], size: int) -> dict[int, np.ndarray]:
    rows = [asked[row].seen if row in asked else None for row in range(size)]
    noise = [asked[row].noise if row in asked else torch.Generator() for row in range(size)]
    actions = actor.act(stack_observations(rows), RowGenerator(noise))
    return {row: actions[row] for row in asked}
