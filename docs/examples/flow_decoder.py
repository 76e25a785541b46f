"""Flow matching over chunks of actions (Lipman et al. 2023), conditioned on all tokens of the features."""

from typing import Annotated, Literal

import torch
from torch import nn

from videopolicy import ActionDecoder, DecoderComponent, WhenActing, normal_noise, weighted_sum
from videopolicy.parts.levels import from_flow_time
from videopolicy.parts.masks import masked_mean, without_masked

FIRST = 0.99  # the flow's time where sampling begins: 1 would be pure noise, and sigma infinite


class FlowActions(ActionDecoder):
    """Predicts the velocity from actions to noise, ``noise - actions``."""

    def __init__(self, features, horizon, actions, width, steps):
        super().__init__()
        self.shape, self.steps, size = (horizon, actions), steps, horizon * actions
        layers = [nn.Linear(features + size + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.Linear(width, size))

    def velocity(self, chunk, time, branches):
        known = torch.cat([chunk.flatten(1), time[:, None]], 1)
        found = [self.net(torch.cat([known, one.tokens.flatten(1)], 1)) for one in branches]
        return weighted_sum(branches, [one.unflatten(1, self.shape) for one in found])

    def loss(self, stream, actions, mask):
        actions = without_masked(actions, mask)  # where there is no action there may be NaN
        time, noise = FIRST * torch.rand(len(actions)).to(actions), torch.randn_like(actions)
        chunk = torch.lerp(actions, noise, time[:, None, None])  # (1 - t) actions + t noise
        wrong = self.velocity(chunk, time, stream.at(from_flow_time(time))) - (noise - actions)
        return masked_mean(wrong.square().mean(-1), mask)

    def sample(self, stream, generator):
        chunk = normal_noise((len(generator), *self.shape), self.net[0].weight, generator)
        times = torch.linspace(FIRST, 0, self.steps + 1).to(chunk)
        features = (branches for _, _, branches in stream.descend(from_flow_time(times)))
        for time, following, branches in zip(times, times[1:], features, strict=False):
            chunk = chunk + (following - time) * self.velocity(chunk, time.expand(len(chunk)), branches)
        return chunk


class FlowDecoder(DecoderComponent):
    """Flow matching over chunks of actions.

    Args:
        horizon: H, actions of a chunk.
        width: Of the hidden layers.
        steps: Euler steps when acting.
    """

    type: Literal["flow"] = "flow"
    horizon: int = 8
    width: int = 256
    steps: Annotated[int, WhenActing()] = 8

    def build(self, layout, spaces):
        return FlowActions(layout.tokens * layout.dim, self.horizon, spaces.actions.dim, self.width, self.steps)
