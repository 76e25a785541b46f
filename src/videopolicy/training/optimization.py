"""The optimiser of a stage."""

from __future__ import annotations

import torch

from videopolicy.contracts.learner import Learner
from videopolicy.recipes.recipe import Optimizer


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
