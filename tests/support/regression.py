"""A regression that trains in milliseconds, its data and their statistics."""

from __future__ import annotations

import torch
from torch import nn

from videopolicy import Batch, Learner, Observation, Window
from videopolicy.contracts.dataset import FieldStatistics, Statistics


class Regression(Learner):
    """Learns ``actions = 2 state`` with dropout and input noise, so that every random draw shows in the weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.network = nn.Sequential(nn.Linear(3, 32), nn.Dropout(0.1), nn.ReLU(), nn.Linear(32, 2))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)

    @property
    def window(self) -> Window:
        return Window(horizon=1)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        state = batch.observation.state[:, 0]
        predicted = self.network(state + 0.1 * torch.randn_like(state))
        return {"action": ((predicted - batch.actions[:, 0]) ** 2).mean()}


class Lines:
    """101 windows: a number that no batch size divides."""

    def __init__(self) -> None:
        self.state = torch.randn(101, 3, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.state)

    def batch(self, indices) -> Batch:
        state = self.state[list(indices)][:, None]
        mask = torch.ones(len(state), 1, dtype=torch.bool)
        return Batch(Observation({}, [""] * len(state), state), actions=2 * state[..., :2], action_mask=mask)


class KilledError(Exception):
    """Stands for the end of the process."""


def statistics() -> Statistics:
    def unit(size: int) -> FieldStatistics:
        return FieldStatistics([-1.0] * size, [1.0] * size, [0.0] * size, [1.0] * size)

    return Statistics(unit(2), unit(3))
