"""The optimiser of a stage, its learning rate, and the average of its weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from videopolicy.contracts.learner import Learner
from videopolicy.recipes.recipe import Optimizer, Schedule


def make_optimizer(learner: Learner, options: Optimizer) -> torch.optim.Optimizer:
    """AdamW over the learner's parameter groups, each of which may scale the learning rate (``lr_scale``)."""
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
    )


def average_with(decay: float, warmup: float | None) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """How the average of the weights moves after the first update, which copies them.

    With a warm-up the n-th update from then on has the decay ``1 - n ** -warmup``: the first copies once more, as in
    the ``ema_model.py`` that published codes share.
    """

    def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return current
        if warmup is None:
            return averaged.lerp(current, 1 - decay)
        # On the device that counts the updates: this is asked for every parameter, and reading the count would wait.
        share = torch.as_tensor(updates, device=averaged.device).double() ** -warmup
        return averaged.lerp(current, share.clamp(min=1 - decay).to(averaged.dtype))

    return average


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
