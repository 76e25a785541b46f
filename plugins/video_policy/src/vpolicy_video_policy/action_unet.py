"""Diffusion Policy's conditional one-dimensional U-Net.

Parameter names follow the official ``ConditionalUnet1D`` (``sgm/modules/diffusionmodules/pose_model.py``), so that its
checkpoints map one to one. It differs from Diffusion Policy's in two things: SiLU instead of Mish, and the embedding
of the level, which comes from the video model.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from vpolicy_video_policy.options import ActionUNetOptions


class ConvBlock(nn.Module):
    """Convolution, group normalisation, SiLU."""

    def __init__(self, channels: int, width: int, options: ActionUNetOptions) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(channels, width, options.kernel, padding=options.kernel // 2),
            nn.GroupNorm(options.groups, width),
            nn.SiLU(),
        )

    def forward(self, chunk: Tensor) -> Tensor:
        return self.block(chunk)


class ResidualBlock(nn.Module):
    """Two convolutions, modulated in between by scale and bias from the condition (FiLM, arXiv 1709.07871)."""

    def __init__(self, channels: int, width: int, condition: int, options: ActionUNetOptions) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([ConvBlock(channels, width, options), ConvBlock(width, width, options)])
        self.cond_encoder = nn.Sequential(nn.SiLU(), nn.Linear(condition, 2 * width))
        self.residual_conv = nn.Conv1d(channels, width, 1) if channels != width else nn.Identity()

    def forward(self, chunk: Tensor, condition: Tensor) -> Tensor:
        """``(B, C, H)`` and ``(B, D)``."""
        scale, bias = self.cond_encoder(condition).unsqueeze(-1).chunk(2, dim=1)
        hidden = scale * self.blocks[0](chunk) + bias
        return self.blocks[1](hidden) + self.residual_conv(chunk)


class Downsample(nn.Module):
    """Half the length."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, stride=2, padding=1)

    def forward(self, chunk: Tensor) -> Tensor:
        return self.conv(chunk)


class Upsample(nn.Module):
    """Twice the length."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(width, width, 4, stride=2, padding=1)

    def forward(self, chunk: Tensor) -> Tensor:
        return self.conv(chunk)


class Level(nn.ModuleList):
    """Two residual blocks and a change of length."""

    def __init__(
        self, channels: int, width: int, condition: int, options: ActionUNetOptions, resample: nn.Module
    ) -> None:
        first = ResidualBlock(channels, width, condition, options)
        super().__init__([first, ResidualBlock(width, width, condition, options), resample])

    def forward(self, chunk: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, H)`` before and behind the change of length."""
        first, second, resample = self
        hidden = second(first(chunk, condition), condition)
        return hidden, resample(hidden)


class LevelSinusoid(nn.Module):
    """Sines and cosines of the level's logarithm, ``(B,)`` to ``(B, width)``, base 10000.

    Ten times the logarithm spans about -60 to 60 between the lowest and the highest level: the range of the step
    numbers for which Diffusion Policy's sinusoid is made.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, level: Tensor) -> Tensor:
        half = self.width // 2
        rates = torch.exp(torch.arange(half, device=level.device) * (-math.log(10000.0) / max(half - 1, 1)))
        angles = 10 * level.float().log()[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ConditionalUNet(nn.Module):
    """See `vpolicy_video_policy.options.ActionUNetOptions` for the options.

    Args:
        options: Of the decoder.
        actions: A.
        condition: Width of the vector that it is conditioned on.
        embedding: Width of the given embedding of the level; 0: it embeds the level by itself.
    """

    def __init__(self, options: ActionUNetOptions, actions: int, condition: int, embedding: int) -> None:
        super().__init__()
        step = options.step_dim
        self.sinusoid = None if embedding else LevelSinusoid(step)
        if embedding:
            self.diffusion_step_encoder = nn.Sequential(nn.SiLU(), nn.Linear(embedding, step))
        else:
            self.diffusion_step_encoder = nn.Sequential(nn.Linear(step, 4 * step), nn.Mish(), nn.Linear(4 * step, step))
        widths, conditioning = options.down_dims, step + condition
        last = len(widths) - 1
        self.down_modules = nn.ModuleList(
            Level(channels, width, conditioning, options, nn.Identity() if index == last else Downsample(width))
            for index, (channels, width) in enumerate(pairwise((actions, *widths)))
        )
        self.up_modules = nn.ModuleList(
            Level(2 * channels, width, conditioning, options, Upsample(width))
            for channels, width in pairwise(reversed(widths))
        )
        self.mid_modules = nn.ModuleList(
            [ResidualBlock(widths[-1], widths[-1], conditioning, options) for _ in range(2)]
        )
        self.final_conv = nn.Sequential(ConvBlock(widths[0], widths[0], options), nn.Conv1d(widths[0], actions, 1))

    def forward(self, chunk: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """The network's own output F.

        Args:
            chunk: ``(B, H, A)`` scaled noisy actions.
            step: ``(B, E)`` embedding of the level, or the levels ``(B,)`` where none is given.
            condition: ``(B, D)``.
        """
        embedding = step if self.sinusoid is None else self.sinusoid(step)
        conditioning = torch.cat([self.diffusion_step_encoder(embedding.to(condition)), condition], dim=-1)
        hidden, skips = chunk.transpose(1, 2), []
        for level in self.down_modules:
            skip, hidden = level(hidden, conditioning)
            skips.append(skip)
        for block in self.mid_modules:
            hidden = block(hidden, conditioning)
        for level in self.up_modules:  # the finest skip is left over, as in Diffusion Policy
            _, hidden = level(torch.cat([hidden, skips.pop()], dim=1), conditioning)
        return self.final_conv(hidden).transpose(1, 2)
