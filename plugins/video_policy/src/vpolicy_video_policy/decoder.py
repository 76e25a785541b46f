"""Diffusion over action chunks with a one-dimensional U-Net."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from videopolicy import (
    ActionDecoder,
    Branch,
    FeatureLayout,
    FeatureStream,
    RowGenerator,
    Spaces,
    normal_noise,
    to_device,
    weighted_sum,
)
from videopolicy.parts.levels import karras
from videopolicy.parts.masks import masked_mean, without_masked
from videopolicy.parts.requirements import required_state
from vpolicy_video_policy.action_unet import ConditionalUNet
from vpolicy_video_policy.options import ActionUNetOptions


class ActionUNetDecoder(ActionDecoder):
    """See `vpolicy_video_policy.options.ActionUNetOptions` for the options and their sources."""

    every_parameter_learns = True

    def __init__(self, options: ActionUNetOptions, layout: FeatureLayout, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self.shape = (options.horizon, spaces.actions.dim)
        state = spaces.state.dim if options.proprioception and spaces.state else 0
        condition = layout.tokens * layout.dim + state
        self.network = ConditionalUNet(options, spaces.actions.dim, condition, layout.step_embedding)

    def loss(self, stream: FeatureStream, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error of v over the actions that are there, unweighted (``EDMWeighting`` cancels out)."""
        stream.actions = actions.shape[1]
        actions = without_masked(actions, mask)
        density, draws = self.options.training_levels, self.options.noise_samples
        level = (normal_noise((len(actions),), actions) * density.deviation + density.mean).exp()
        branches = [_repeated(branch, draws) for branch in stream.at(level)]
        level, actions, mask = level.repeat(draws), actions.repeat(draws, 1, 1), mask.repeat(draws, 1)
        noise = normal_noise(tuple(actions.shape), actions)
        scale = level.view(-1, 1, 1)
        velocity = (noise - scale * actions) / (scale**2 + 1).sqrt()
        error = (self._velocity(actions + scale * noise, level, branches, stream) - velocity) ** 2
        return self.weight(stream) * masked_mean(error, mask.unsqueeze(-1))

    def weight(self, stream: FeatureStream) -> float:
        """Of the loss: as the options say, or the share of the actions among actions and frames."""
        actions = self.shape[0]
        given = self.options.action_weight
        return actions / (actions + stream.video_frames) if given is None else given

    @torch.no_grad()
    def sample(self, stream: FeatureStream, generator: RowGenerator) -> Tensor:
        """Euler steps along the levels of the options, in lock-step with the features."""
        rows, options = len(stream.observation), self.options.sampling_levels
        # Levels stay with the processor, where the stream compares them; what is computed with them does not.
        levels = karras(options.steps, options.lowest, options.highest, options.rho)
        like = torch.zeros((), device=next(self.network.parameters()).device)
        actions = normal_noise((rows, *self.shape), like, generator) * (levels[0] ** 2 + 1).sqrt()
        moved = to_device(levels, actions.device)
        for at, (level, following, branches) in zip(moved, stream.descend(levels), strict=False):
            clean = self.denoise(actions, at.expand(rows), branches, stream)
            actions = clean + (following / level) * (actions - clean)
        return actions

    def denoise(self, noisy: Tensor, level: Tensor, branches: list[Branch], stream: FeatureStream) -> Tensor:
        """The clean estimate D ``(B, H, A)`` of noisy actions at levels ``(B,)``."""
        velocity = self._velocity(noisy, level, branches, stream)
        scale = level.view(-1, 1, 1)
        return noisy / (scale**2 + 1) - velocity * scale / (scale**2 + 1).sqrt()

    def _velocity(self, noisy: Tensor, level: Tensor, branches: list[Branch], stream: FeatureStream) -> Tensor:
        """The network's v ``(B, H, A)``, the weighted sum over the branches, all of them as one batch."""
        count, like = len(branches), next(self.network.parameters())
        scaled = noisy / (level.view(-1, 1, 1) ** 2 + 1).sqrt()
        condition = torch.cat([branch.tokens.transpose(1, 2).flatten(1) for branch in branches]).to(like)
        if self.options.proprioception:
            state = required_state(stream.observation, "The decoder")[:, -1].to(like)
            condition = torch.cat([condition, state.repeat(len(condition) // len(state), 1)], dim=-1)
        steps = [level if branch.step_embedding is None else branch.step_embedding for branch in branches]
        output = self.network(scaled.to(like).repeat(count, 1, 1), torch.cat(steps), condition)
        return weighted_sum(branches, output.to(noisy.dtype).unflatten(0, (count, -1)))


def _repeated(branch: Branch, times: int) -> Branch:
    """The same rows several times over."""
    if times == 1:
        return branch
    embedding = None if branch.step_embedding is None else branch.step_embedding.repeat(times, 1)
    return replace(branch, tokens=branch.tokens.repeat(times, 1, 1), step_embedding=embedding)
