"""Diffusion over action chunks, conditioned on features."""

from __future__ import annotations

import math

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
from videopolicy.parts.levels import exponential, karras
from videopolicy.parts.masks import masked_mean, without_masked
from videopolicy.parts.requirements import required_state
from vpolicy_vpp.options import DitDiffusionOptions, SamplingLevels, TrainingLevels
from vpolicy_vpp.transformer import DiffusionTransformer, Memory, Modulations


class DiffusionDecoder(ActionDecoder):
    """See `vpolicy_vpp.options.DitDiffusionOptions` for the options and their sources."""

    every_parameter_learns = True

    def __init__(self, options: DitDiffusionOptions, layout: FeatureLayout, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self.text = options.text.build()
        self.shape = (options.horizon, spaces.actions.dim)
        state_dim = spaces.state.dim if options.proprioception and spaces.state else 0
        self.network = DiffusionTransformer(options, layout.dim, options.text.pooled_dim, spaces.actions.dim, state_dim)

    def loss(self, stream: FeatureStream, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error of F against its EDM target over the actions that are there."""
        actions = without_masked(actions, mask)
        draws, rows = self.options.noise_samples, len(actions)
        level = to_device(sample_levels(self.options.training_levels, (draws, rows)), actions.device, actions.dtype)
        noise = torch.randn((draws, *actions.shape), device=actions.device, dtype=actions.dtype)
        contexts = _Contexts(self, stream)
        branches = [stream.at(level[draw]) for draw in range(draws)]
        scale = level.view(draws, rows, 1, 1)
        noisy = actions + scale * noise
        skip, out, _ = self._preconditioning(scale)
        error = (self._raw(noisy, level, branches, contexts) - (actions - skip * noisy) / out) ** 2
        return masked_mean(error, mask.unsqueeze(-1))

    @torch.no_grad()
    def sample(self, stream: FeatureStream, generator: RowGenerator) -> Tensor:
        """DDIM in sigma: ``a <- (s'/s) a + (1 - s'/s) D``.

        In this parametrisation DDIM, the first-order DPM-Solver and Euler are the same step, so the official
        code's choice between ``ddim`` and ``euler`` needs no option.
        """
        rows = len(stream.observation)
        like = self.network.action_emb.weight
        levels = sampling_levels(self.options.sampling_levels)
        actions = normal_noise((rows, *self.shape), like, generator) * levels[0]
        contexts = _Contexts(self, stream)
        moved = to_device(levels[:-1], actions.device, actions.dtype)
        modulations = zip(*(of_layer.split(1) for of_layer in self.network.modulations(moved)), strict=True)
        for at, modulation, (level, following, branches) in zip(
            moved, modulations, stream.descend(levels), strict=True
        ):
            clean = self.denoise(actions, at.expand(rows), branches, contexts, list(modulation))
            ratio = following / level
            actions = ratio * actions + (1 - ratio) * clean
        return actions

    def denoise(
        self,
        noisy: Tensor,
        level: Tensor,
        branches: list[Branch],
        contexts: _Contexts,
        modulations: Modulations | None = None,
    ) -> Tensor:
        """The clean estimate D ``(B, H, A)`` of noisy actions at levels ``(B,)``.

        Args:
            modulations: Those of the level, where they are known and it is the same for all rows.
        """
        skip, out, _ = self._preconditioning(level.view(-1, 1, 1))
        return skip * noisy + out * self._raw(noisy[None], level[None], [branches], contexts, modulations)[0]

    def _preconditioning(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """EDM's ``c_skip``, ``c_out`` and ``c_in`` (Karras et al. 2022, table 1)."""
        data = self.options.sigma_data
        total = level**2 + data**2
        return data**2 / total, level * data / total.sqrt(), 1 / total.sqrt()

    def _raw(
        self,
        noisy: Tensor,
        level: Tensor,
        branches: list[list[Branch]],
        contexts: _Contexts,
        modulations: Modulations | None = None,
    ) -> Tensor:
        """The inner network's F for several draws, all branches of all draws as one batch.

        Args:
            noisy: ``(draws, B, H, A)``.
            level: ``(draws, B)``.
            branches: Per draw the features at its level.
            modulations: Those of the level, where it is the same everywhere; computed where they are not given.

        Returns:
            ``(draws, B, H, A)``, the weighted sum over the branches.
        """
        draws, rows, count = len(branches), noisy.shape[1], len(branches[0])
        inputs = noisy * self._preconditioning(level.view(draws, rows, 1, 1))[2]
        if modulations is None:
            modulations = self.network.modulations(level.repeat_interleave(count, dim=0).flatten())
        output = self.network(
            inputs.repeat_interleave(count, dim=0).flatten(0, 1),
            modulations,
            contexts.memory([branch for of_draw in branches for branch in of_draw]),
        ).unflatten(0, (draws, count, rows))
        guided = [weighted_sum(of_draw, predicted) for of_draw, predicted in zip(branches, output, strict=True)]
        return torch.stack(guided)


class _Contexts:
    """Encoded contexts of one batch, each computed once however many levels read it.

    Goal and state are the stream's; tokens are known by identity, so a stream that gives the same tensor
    at every level is encoded once, and one that gives new features at every level is encoded at every level.

    Where action i attends to the first i + 1 tokens of a context only, no more tokens are finished than there are
    actions; in training all are, since dropout's draws depend on their number.
    """

    def __init__(self, decoder: DiffusionDecoder, stream: FeatureStream) -> None:
        observation = stream.observation
        self.network, options = decoder.network, decoder.options
        self.read = options.horizon if options.causal_cross_attention and not decoder.training else None
        self.goal = decoder.text(observation.instructions).pooled
        self.state = None
        if self.network.proprio_emb is not None:
            self.state = required_state(observation, "The decoder")[:, -1].to(self.goal)
        self._known: dict[int, tuple[Tensor, Memory]] = {}

    def memory(self, branches: list[Branch]) -> Memory:
        """Keys and values for these branches, one behind the other on the batch axis."""
        known = {}
        for tokens in (branch.tokens for branch in branches):
            key = id(tokens)
            if key not in known:
                known[key] = self._known.get(key) or (tokens, self._remember(tokens))
        self._known = known
        if len(branches) == 1:
            return known[id(branches[0].tokens)][1]
        memories = [known[id(branch.tokens)][1] for branch in branches]
        return [
            (torch.cat([key for key, _ in layer]), torch.cat([value for _, value in layer]))
            for layer in zip(*memories, strict=True)
        ]

    def _remember(self, tokens: Tensor) -> Memory:
        return self.network.remember(self.network.context(tokens.to(self.goal), self.goal, self.state, self.read))


def sample_levels(options: TrainingLevels, shape: tuple[int, ...], uniform: Tensor | None = None) -> Tensor:
    """Levels from the truncated log-logistic density, in double precision as in the official code.

    Args:
        uniform: Numbers in [0, 1) to use instead of drawing them.
    """
    location = math.log(options.median)
    low, high = (
        1 / (1 + math.exp(-(math.log(bound) - location) / options.scale)) for bound in (options.lowest, options.highest)
    )
    uniform = torch.rand(shape, dtype=torch.float64) if uniform is None else uniform
    return ((uniform * (high - low) + low).logit() * options.scale + location).exp()


def sampling_levels(options: SamplingLevels) -> Tensor:
    """``(steps + 1,)`` falling levels, the last one 0."""
    if options.schedule == "karras":
        return karras(options.steps, options.lowest, options.highest, options.rho)
    return exponential(options.steps, options.lowest, options.highest)
