"""Actions denoised one by one, each conditioned on its own latent (section III-C)."""

from __future__ import annotations

import torch
from torch import Tensor

from videopolicy import ActionDecoder, Branch, FeatureLayout, FeatureStream, RowGenerator, Spaces
from videopolicy.parts.masks import masked_mean, without_masked
from vpolicy_uva.aggregation import aggregation
from vpolicy_uva.diffusion import scheduler
from vpolicy_uva.head import Conditions, DiffusionHead
from vpolicy_uva.options import UvaActionOptions


class UvaActionDecoder(ActionDecoder):
    """See `vpolicy_uva.options.UvaActionOptions` for the options and their sources."""

    every_parameter_learns = True

    def __init__(self, options: UvaActionOptions, layout: FeatureLayout, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self.aggregation = aggregation(options.aggregation, layout, options.horizon)
        self.head = DiffusionHead(options.head, spaces.actions.dim, layout.dim)

    def loss(self, stream: FeatureStream, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean loss of the actions that are there, over ``noise_samples`` draws."""
        diffusion, rows, horizon = self.head.diffusion, *mask.shape
        actions, latents = without_masked(actions, mask), _Latents(self)
        if self.options.level_per == "action":
            # Features are read once, at a level of their own: that they are the same at all levels is up to the user.
            condition = _only(latents(stream.at(diffusion.level(diffusion.draw_timesteps(rows)))))
            losses = self.head.losses(actions.flatten(0, 1), condition.flatten(0, 1))
        else:
            draws = self.options.head.noise_samples
            timestep = diffusion.draw_timesteps(draws * rows).view(draws, rows)
            condition = torch.cat([_only(latents(stream.at(diffusion.level(of_draw)))) for of_draw in timestep])
            clean, timestep = actions.repeat(draws, 1, 1), timestep.flatten().repeat_interleave(horizon)
            losses = self.head.losses(clean.flatten(0, 1), condition.flatten(0, 1), timestep)
        return masked_mean(losses.view(-1, rows, horizon), mask)

    @torch.no_grad()
    def sample(self, stream: FeatureStream, generator: RowGenerator) -> Tensor:
        """Ancestral sampling along the respaced schedule, in step with the features."""
        shape, latents = (len(stream.observation), self.options.horizon), _Latents(self)
        levels = scheduler(self.options.head).levels
        steps = (latents(branches) for _, _, branches in stream.descend(levels))
        return self.head.sample_along(steps, shape, generator)


class _Latents:
    """Action latents of one batch; tokens are known by identity, so that those of a stream that gives the same
    tensor at every level are aggregated once."""

    def __init__(self, decoder: UvaActionDecoder) -> None:
        self.aggregation, self.horizon = decoder.aggregation, decoder.options.horizon
        self.dtype = decoder.head.condition_in.weight.dtype
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, branches: list[Branch]) -> Conditions:
        known = {}
        for tokens in (branch.tokens for branch in branches):
            if id(tokens) not in known:
                known[id(tokens)] = self._known.get(id(tokens)) or (tokens, self.aggregation(tokens.to(self.dtype)))
        self._known = known
        return [(self._weight(branch), known[id(branch.tokens)][1]) for branch in branches]

    def _weight(self, branch: Branch) -> float | Tensor:
        return branch.weight if branch.last_weight is None else branch.weights(self.horizon)


def _only(conditions: Conditions) -> Tensor:
    """The condition of training, where nothing is guided."""
    ((_, condition),) = conditions
    return condition
