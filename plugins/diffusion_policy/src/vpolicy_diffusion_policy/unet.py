"""Diffusion Policy's conditional one-dimensional U-Net.

Parameter names follow the official ``ConditionalUnet1D``, so that its weights map one to one.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from vpolicy_diffusion_policy.options import UNetDiffusionOptions
from vpolicy_diffusion_policy.sinusoid import sinusoid


class ConvBlock(nn.Module):
    """Convolution, group normalisation, Mish."""

    def __init__(self, channels: int, width: int, options: UNetDiffusionOptions) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(channels, width, options.kernel, padding=options.kernel // 2),
            nn.GroupNorm(options.groups, width),
            nn.Mish(),
        )

    def forward(self, chunk: Tensor) -> Tensor:
        return self.block(chunk)


class ResidualBlock(nn.Module):
    """Two convolutions, modulated in between by scale and bias from the condition (FiLM, arXiv 1709.07871)."""

    def __init__(self, channels: int, width: int, condition: int, options: UNetDiffusionOptions) -> None:
        super().__init__()
        self.scaled = options.scale
        self.blocks = nn.ModuleList([ConvBlock(channels, width, options), ConvBlock(width, width, options)])
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(condition, (1 + self.scaled) * width))
        self.residual_conv = nn.Conv1d(channels, width, 1) if channels != width else nn.Identity()

    def forward(self, chunk: Tensor, condition: Tensor) -> Tensor:
        """``(B, C, H)`` and ``(B, D)``."""
        hidden = self.blocks[0](chunk)
        modulation = self.cond_encoder(condition).unsqueeze(-1)
        if self.scaled:
            scale, bias = modulation.chunk(2, dim=1)
            hidden = scale * hidden + bias
        else:
            hidden = hidden + modulation
        return self.blocks[1](hidden) + self.residual_conv(chunk)


class Resample(nn.Module):
    """Half or twice the length."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, chunk: Tensor) -> Tensor:
        return self.conv(chunk)


class Level(nn.ModuleList):
    """Two residual blocks and a change of length."""

    def __init__(
        self, channels: int, width: int, condition: int, options: UNetDiffusionOptions, resample: nn.Module
    ) -> None:
        first = ResidualBlock(channels, width, condition, options)
        super().__init__([first, ResidualBlock(width, width, condition, options), resample])

    def forward(self, chunk: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, H)`` before and behind the change of length."""
        first, second, resample = self
        hidden = second(first(chunk, condition), condition)
        return hidden, resample(hidden)


class ConditionalUNet(nn.Module):
    """See `vpolicy_diffusion_policy.options.UNetDiffusionOptions` for the options.

    Args:
        options: Of the decoder.
        actions: A.
        condition: Width of the vector that it is conditioned on.
    """

    def __init__(self, options: UNetDiffusionOptions, actions: int, condition: int) -> None:
        super().__init__()
        self.step = options.step_dim
        widths, conditioning = options.down_dims, options.step_dim + condition
        last = len(widths) - 1
        self.mid_modules = nn.ModuleList(
            [ResidualBlock(widths[-1], widths[-1], conditioning, options) for _ in range(2)]
        )
        # The sinusoid stands first in the official sequence; the identity keeps its place among the names.
        self.diffusion_step_encoder = nn.Sequential(
            nn.Identity(), nn.Linear(self.step, 4 * self.step), nn.Mish(), nn.Linear(4 * self.step, self.step)
        )
        self.up_modules = nn.ModuleList(
            Level(2 * width, channels, conditioning, options, Resample(nn.ConvTranspose1d(channels, channels, 4, 2, 1)))
            for width, channels in pairwise(reversed(widths))
        )
        self.down_modules = nn.ModuleList(
            Level(
                channels,
                width,
                conditioning,
                options,
                nn.Identity() if index == last else Resample(nn.Conv1d(width, width, 3, 2, 1)),
            )
            for index, (channels, width) in enumerate(pairwise((actions, *widths)))
        )
        self.final_conv = nn.Sequential(ConvBlock(widths[0], widths[0], options), nn.Conv1d(widths[0], actions, 1))

    def forward(self, chunk: Tensor, timestep: Tensor, tokens: Tensor, text: Tensor | None) -> Tensor:
        """The prediction ``(B, H, A)``.

        Args:
            chunk: ``(B, H, A)`` noisy actions.
            timestep: ``(B,)``.
            tokens: ``(B, N, D)``, the condition as one vector, token by token.
            text: ``(B, P)``, behind them.
        """
        parts = [self.diffusion_step_encoder(sinusoid(timestep, self.step).to(chunk)), tokens.flatten(1)]
        condition = torch.cat(parts if text is None else [*parts, text], dim=-1)
        hidden, skips = chunk.transpose(1, 2), []
        for level in self.down_modules:
            skip, hidden = level(hidden, condition)
            skips.append(skip)
        for block in self.mid_modules:
            hidden = block(hidden, condition)
        for level in self.up_modules:  # the finest skip is left over, as in the official code
            _, hidden = level(torch.cat([hidden, skips.pop()], dim=1), condition)
        return self.final_conv(hidden).transpose(1, 2)
