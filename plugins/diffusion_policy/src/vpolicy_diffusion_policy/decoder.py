"""Diffusion over action chunks, around either network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from videopolicy import (
    ActionDecoder,
    Branch,
    FeatureStream,
    RowGenerator,
    Spaces,
    normal_noise,
    to_device,
    weighted_sum,
)
from videopolicy.parts.masks import masked_mean, without_masked
from vpolicy_diffusion_policy.diffusion import ActionDiffusion
from vpolicy_diffusion_policy.options import TransformerDiffusionOptions, UNetDiffusionOptions


class DiffusionDecoder(ActionDecoder):
    """See `vpolicy_diffusion_policy.options` for the options and their sources.

    Args:
        options: Of the decoder.
        network: ``(noisy actions (B, H, A), timesteps (B,), tokens (B, N, D), text (B, P) or None)`` to ``(B, H, A)``.
        spaces: Of the actions.
    """

    every_parameter_learns = True

    def __init__(
        self, options: UNetDiffusionOptions | TransformerDiffusionOptions, network: nn.Module, spaces: Spaces
    ) -> None:
        super().__init__()
        self.shape = (options.horizon, spaces.actions.dim)
        self.draws = options.diffusion.noise_samples
        self.diffusion = ActionDiffusion(options.diffusion)
        self.text = None if options.text is None else options.text.build()
        self.network = network

    def loss(self, stream: FeatureStream, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error of the prediction over the actions that are there, over all draws."""
        actions = without_masked(actions, mask)
        timesteps = [self.diffusion.draw(len(actions), actions.device) for _ in range(self.draws)]
        branches = [_one(stream.at(self.diffusion.level(timestep))) for timestep in timesteps]
        timestep, actions = torch.cat(timesteps), actions.repeat(self.draws, 1, 1)
        noisy, target = self.diffusion.noisy(actions, timestep)
        tokens, text = torch.cat([branch.tokens for branch in branches]), self._read(stream)
        error = (self._predict(noisy, timestep, tokens, text, self.draws) - target) ** 2
        return masked_mean(error, mask.repeat(self.draws, 1).unsqueeze(-1))

    @torch.no_grad()
    def sample(self, stream: FeatureStream, generator: RowGenerator) -> Tensor:
        """Steps of the sampler, in step with the features."""
        rows, like = len(stream.observation), next(self.network.parameters())
        actions = normal_noise((rows, *self.shape), like, generator)
        text = self._read(stream)
        timesteps = self.diffusion.timesteps
        moved, levels = to_device(timesteps, actions.device), self.diffusion.sampling_levels
        for timestep, at, (_, _, branches) in zip(timesteps, moved, stream.descend(levels), strict=True):
            count = len(branches)
            predicted = self._predict(
                actions.repeat(count, 1, 1),
                at.expand(count * rows),
                torch.cat([branch.tokens for branch in branches]),
                text,
                count,
            )
            guided = weighted_sum(branches, predicted.unflatten(0, (count, rows)))
            actions = self.diffusion.step(guided, timestep, actions, generator)
        return actions

    def _read(self, stream: FeatureStream) -> Tensor | None:
        """The instructions' vectors ``(B, P)``."""
        return None if self.text is None else self.text(stream.observation.instructions).pooled

    def _predict(self, noisy: Tensor, timestep: Tensor, tokens: Tensor, text: Tensor | None, times: int) -> Tensor:
        """The network on rows that repeat the batch ``times`` times over."""
        like = next(self.network.parameters())
        if text is not None:
            text = text.to(like).repeat(times, 1)
        output: Tensor = self.network(noisy.to(like), timestep, tokens.to(like), text)
        return output.to(noisy.dtype)


def _one(branches: list[Branch]) -> Branch:
    """The features of training, where nothing is guided."""
    (branch,) = branches
    return branch
