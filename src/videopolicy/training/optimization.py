"""The optimiser of a stage and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from videopolicy.contracts.learner import Learner
from videopolicy.recipes.recipe import Optimizer, Schedule


def make_optimizer(learner: Learner, options: Optimizer, fused: bool = True) -> torch.optim.Optimizer:
    """AdamW over the learner's parameter groups, each of which may scale the learning rate (``lr_scale``).

    Args:
        learner: What is trained.
        options: Of the recipe.
        fused: One pass over memory for each parameter. Lightning cannot clip gradients that a scaler has scaled then.
    """
    groups = [
        {**group, "lr": options.learning_rate * group.pop("lr_scale", 1.0)}
        for group in map(dict, learner.parameter_groups())
    ]
    return torch.optim.AdamW(
        groups,
        lr=options.learning_rate,
        betas=options.betas,
        eps=options.epsilon,
        weight_decay=options.weight_decay,
        fused=fused,
    )


def learning_rate_factor(schedule: Schedule, steps: int) -> Callable[[int], float]:
    """What the learning rate is multiplied with at a step of a stage with so many ``steps``."""

    def factor(step: int) -> float:
        if step < schedule.warmup_steps:
            return (step + 1) / schedule.warmup_steps
        if schedule.type == "constant":
            return 1.0
        done = (step - schedule.warmup_steps) / max(1, steps - schedule.warmup_steps)
        return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor
