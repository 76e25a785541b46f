"""Temporal ensembling (ACT, Zhao et al. 2023) around any policy: what several plans say of one step is averaged."""

import math
from typing import Annotated, Literal

import torch

from videopolicy import AnyPolicy, Policy, PolicyComponent, WhenActing


class Ensembled(Policy):
    """Remembers the chunks of every row, and averages where they overlap."""

    def __init__(self, inner, execute, decay):
        super().__init__()
        self.inner, self.execute, self.decay = inner, execute, decay
        self.plans = {}  # of every row its chunks, the newest first

    @property
    def window(self):
        return self.inner.window

    def loss(self, batch):
        return self.inner.loss(batch)

    def parameter_groups(self):
        return self.inner.parameter_groups()

    def reset(self, rows):
        self.inner.reset(rows)
        for row in rows:
            self.plans.pop(row, None)

    @torch.no_grad()
    def act(self, observation, generator):
        chunks = self.inner.act(observation, generator)
        for row in range(len(chunks)) if observation.rows is None else observation.rows:
            older = [plan[self.execute :] for plan in self.plans.get(row, [])]
            self.plans[row] = [chunks[row].clone(), *(plan for plan in older if len(plan))]
            chunks[row] = self.averaged(self.plans[row])
        return chunks

    def averaged(self, plans):
        total, weight = torch.zeros_like(plans[0]), plans[0].new_zeros(len(plans[0]), 1)
        for age, plan in enumerate(plans):
            total[: len(plan)] += math.exp(-self.decay * age) * plan
            weight[: len(plan)] += math.exp(-self.decay * age)
        return total / weight


class EnsembledPolicy(PolicyComponent):
    """Temporal ensembling around any policy.

    Args:
        policy: What plans.
        execute: Actions executed of every chunk, as the recipe's ``eval.execute``.
        decay: A plan counts exp(-decay) times as much as the one that followed it; negative: older plans count more,
            as in ACT.
    """

    type: Literal["ensembled"] = "ensembled"
    policy: AnyPolicy
    execute: Annotated[int, WhenActing()]
    decay: Annotated[float, WhenActing()] = 0.1

    def window(self):
        return self.policy.window()

    def check(self, spaces):
        return self.policy.check(spaces)

    def build(self, spaces):
        return Ensembled(self.policy.build(spaces), self.execute, self.decay)
