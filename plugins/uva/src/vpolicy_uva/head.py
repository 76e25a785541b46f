"""A diffusion head: a residual MLP that denoises single vectors, each on a condition of its own.

``SimpleMLPAdaLN`` of MAR (Li et al. 2024, arXiv 2406.11838), as
``unified_video_action/model/autoregressive/diffusion_loss.py`` has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import ClassVar, cast

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional

from videopolicy import RowGenerator, normal_noise, to_device
from vpolicy_uva.diffusion import Diffusion, scheduler
from vpolicy_uva.options import Head

SINUSOIDS = 256
EPSILON = 1e-6
AHEAD_VALUES = 2**22
"""Modulations (16 megabytes of them in single precision) that sampling computes at a time, ahead of its steps."""

Conditions = Sequence[tuple[float | Tensor, Tensor]]
"""Weight and condition ``(B, n, D)`` of every branch of guidance, one of weight 1 without; a weight of all vectors, or
one ``(n,)`` for each."""

Modulations = list[tuple[Tensor, ...]]
"""Of every block its scale, shift and gate, and of the last layer its scale and shift."""


class Block(nn.Module):
    """Normalisation, shifted and scaled by the condition, a small MLP, and a gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Linear(width, 3 * width)

    def modulations(self, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scale, shift and gate, into which the normalisation's own weights are worked."""
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        scale = 1 + scale
        return self.norm.weight * scale, torch.addcmul(shift, self.norm.bias, scale), gate

    def forward(self, hidden: Tensor, scale: Tensor, shift: Tensor, gate: Tensor) -> Tensor:
        normal = functional.layer_norm(hidden, hidden.shape[-1:], eps=EPSILON)
        return torch.addcmul(hidden, gate, self.mlp(torch.addcmul(shift, normal, scale)))


class DiffusionHead(nn.Module):
    """Denoises vectors of C channels, conditioned on vectors of width D.

    What depends on condition and timestep alone, five eighths of all operations, is kept apart from what depends on
    the noisy vector: sampling computes it for many steps in one matrix product.

    Args:
        options: Sizes and schedule.
        channels: C.
        condition: D.
    """

    graph_methods: ClassVar[tuple[str, ...]] = ("_denoised", "modulations")

    def __init__(self, options: Head, channels: int, condition: int) -> None:
        super().__init__()
        width = options.width
        self.options, self.channels = options, channels
        self.diffusion = Diffusion(options.training_steps)
        self.time = nn.Sequential(nn.Linear(SINUSOIDS, width), nn.SiLU(), nn.Linear(width, width))
        self.condition_in = nn.Linear(condition, width)
        self.sample_in = nn.Linear(channels, width)
        self.blocks = nn.ModuleList([Block(width) for _ in range(options.depth)])
        self.out_modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, 2 * channels)
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                if name.startswith("time."):
                    nn.init.normal_(module.weight, std=0.02)
                elif name == "out" or name.endswith("modulation"):
                    nn.init.zeros_(module.weight)
                else:
                    nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """Noise and variance ``(N, 2 C)``.

        Args:
            noisy: ``(N, C)``.
            timestep: Indices of the training schedule ``(N,)``.
            condition: ``(N, D)``.
        """
        return self._denoised(noisy, self.modulations(self.embedded(timestep) + self.condition_in(condition)))

    def losses(
        self, clean: Tensor, condition: Tensor, timestep: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """Loss of every vector ``(N,)``, the mean over ``noise_samples`` draws.

        Args:
            clean: ``(N, C)``. N may be 0: no window of a batch need have a frame to come that is there.
            condition: ``(N, D)``.
            timestep, noise: ``(draws N,)`` and ``(draws N, C)`` instead of drawing them.
        """
        count = len(clean)
        if count == 0:
            return condition.sum(dim=-1).to(clean.dtype)  # nothing, which still has a gradient
        timestep = self.diffusion.draw_timesteps(self.options.noise_samples * count) if timestep is None else timestep
        draws = len(timestep) // count
        clean = clean.repeat(draws, 1)
        noise = torch.randn_like(clean) if noise is None else noise
        embedding = self.embedded(timestep) + self.condition_in(condition).repeat(draws, 1)
        output = self._denoised(self.diffusion.noisy(clean, timestep, noise), self.modulations(embedding))
        return self.diffusion.losses(output, clean, timestep, noise).view(draws, count).mean(dim=0)

    def sample(self, conditions: Conditions, generator: RowGenerator | None) -> Tensor:
        """Sample vectors ``(B, n, C)`` for conditions ``(B, n, D)``.

        Args:
            conditions: Of every branch of guidance.
            generator: Noise of the rows; torch's global generator if None.
        """
        rows, count = conditions[0][1].shape[:2]
        return self.sample_along(repeat(conditions), (rows, count), generator)

    @torch.no_grad()
    def sample_along(
        self, steps: Iterable[Conditions], shape: tuple[int, int], generator: RowGenerator | None
    ) -> Tensor:
        """Sample vectors ``(B, n, C)`` with conditions for every step, read in step with the sampling.

        Conditions that are the same tensors as at the step before are not computed with again.
        """
        sampler = scheduler(self.options)
        device, size = self.sample_in.weight.device, (*shape, self.channels)
        # Drawn before the loop, and brought to the device at once: within the loop, nothing waits.
        like = torch.zeros((), device="cpu")
        noises = torch.stack([normal_noise(size, like, generator) for _ in range(len(sampler.timesteps) + 1)])
        sample, *added = to_device(noises, device).flatten(1, 2).unbind()
        timesteps = to_device(sampler.timesteps, device)
        ahead = _Ahead(self, timesteps)
        for index, (conditions, noise) in enumerate(zip(steps, added, strict=False)):
            output = self._denoised(sample, ahead(index, conditions))
            output = _weighted(output, [weight for weight, _ in conditions])
            sample = sampler.advance(index, output.to(sample.dtype), sample, noise)
        return sample.view(size)

    def embedded(self, timestep: Tensor) -> Tensor:
        """Embedded timesteps ``(N, W)``."""
        waves = get_timestep_embedding(timestep, SINUSOIDS, flip_sin_to_cos=True, downscale_freq_shift=0)
        return self.time(waves.to(self.condition_in.weight.dtype))

    def modulations(self, embedding: Tensor) -> Modulations:
        """Of an embedding ``(..., W)``: the sum of embedded timestep and condition."""
        embedding = functional.silu(embedding)
        shift, scale = self.out_modulation(embedding).chunk(2, dim=-1)
        blocks = cast("Iterable[Block]", self.blocks)
        return [*(block.modulations(embedding) for block in blocks), (1 + scale, shift)]

    def _denoised(self, noisy: Tensor, modulations: Modulations) -> Tensor:
        """Noise and variance ``(branches N, 2 C)`` of noisy vectors ``(N, C)``."""
        *of_blocks, (scale, shift) = modulations
        hidden = self.sample_in(noisy.to(self.sample_in.weight.dtype))
        hidden = hidden.repeat(len(scale) // len(hidden), 1)
        for block, of_block in zip(self.blocks, of_blocks, strict=True):
            hidden = block(hidden, *of_block)
        return self.out(torch.addcmul(shift, functional.layer_norm(hidden, hidden.shape[-1:], eps=EPSILON), scale))


class _Ahead:
    """Modulations of sampling steps, computed ahead for as long as the conditions stay the same."""

    def __init__(self, head: DiffusionHead, timesteps: Tensor) -> None:
        self.head, self.steps = head, head.embedded(timesteps)
        self._known: list[Tensor] = []
        self._at: range = range(0)
        self._condition = self.steps
        self._modulations: Modulations = []

    def __call__(self, index: int, conditions: Conditions) -> Modulations:
        given = [condition for _, condition in conditions]
        same = len(given) == len(self._known) and all(
            one is other for one, other in zip(given, self._known, strict=True)
        )
        if not same:
            self._known = given
            self._condition = self.head.condition_in(
                torch.cat(given).flatten(0, 1).to(self.head.condition_in.weight.dtype)
            )
        if not same or index not in self._at:
            # The first step of new conditions by itself: they may last for no more than that.
            values = self._condition.numel() * (3 * self.head.options.depth + 2)
            count = max(1, AHEAD_VALUES // values) if same else 1
            self._at = range(index, min(index + count, len(self.steps)))
            steps = self.steps[self._at.start : self._at.stop]
            self._modulations = self.head.modulations(steps.unsqueeze(1) + self._condition)
        return [tuple(part[index - self._at.start] for part in parts) for parts in self._modulations]


def _weighted(output: Tensor, weights: list[float | Tensor]) -> Tensor:
    """One prediction ``(N, 2 C)`` from those of all branches ``(branches N, 2 C)``.

    The noise is their weighted sum, the variance that of the branch of the largest weight: of the conditional one, as
    in the official ``forward_with_cfg``.
    """
    if len(weights) == 1:
        return output
    noise, variance = output.unflatten(0, (len(weights), -1)).chunk(2, dim=-1)
    total = torch.stack([_scaled(one, weight) for one, weight in zip(noise, weights, strict=True)]).sum(dim=0)
    # Weights are the processor's numbers: no device is waited for.
    means = [float(torch.as_tensor(weight).mean()) for weight in weights]
    return torch.cat([total, variance[means.index(max(means))]], dim=-1)


def _scaled(noise: Tensor, weight: float | Tensor) -> Tensor:
    """Noise ``(N, C)`` times a weight, or times the weights ``(n,)`` of every n of its vectors."""
    if not isinstance(weight, Tensor):
        return weight * noise
    return to_device(weight, noise.device, noise.dtype).repeat(len(noise) // len(weight))[:, None] * noise
