"""The CNN adapter: feature maps of all views and frames to one small grid.

Official ``VideoResNet`` (``sgm/modules/diffusionmodules/pose_model.py``). Inside a bottleneck the parameter names are
the official ones; a layer with the official name ``layer{n}`` has this one here, with n from 1, the view v from 1 and
K taps (officially 5):

- ``layer{n}_{v}``, n <= K: ``branches.{v-1}.stages.{n-1}``
- ``layer{n}_{v}_cat``: ``branches.{v-1}.merges.{n-2}``
- ``layer{n}_{v}``, n > K: ``branches.{v-1}.squeeze.{n-K-1}``
- ``layer{n}`` without a view: ``trunk.{n-K-S-1}`` behind S layers of ``squeeze`` (officially 2)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vpolicy_video_policy.options import Adapter


class Bottleneck(nn.Module):
    """1 x 1 x 1, 3 x 3 x 3 and 1 x 1 x 1 convolutions around a residual; the level enters before the second.

    Args:
        channels, width: In and out.
        middle: Channels between the first and the last convolution.
        groups: That normalise the middle; the outside has as many times more as it is wider.
        embedding: Width of the embedding of the level, 0 for none.
        stride: In time, height and width.
    """

    def __init__(
        self, channels: int, width: int, middle: int, groups: int, embedding: int, stride: tuple[int, int, int]
    ) -> None:
        super().__init__()
        outer = groups * (width // middle)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, middle)) if embedding else None
        self.conv1 = nn.Sequential(nn.Conv3d(channels, middle, 1, bias=False), nn.GroupNorm(groups, middle), nn.SiLU())
        self.conv2 = nn.Sequential(
            nn.Conv3d(middle, middle, 3, stride, padding=1, bias=False), nn.GroupNorm(groups, middle), nn.SiLU()
        )
        self.conv3 = nn.Sequential(nn.Conv3d(middle, width, 1, bias=False), nn.GroupNorm(outer, width))
        self.downsample: nn.Module = nn.Identity()
        if channels != width or stride != (1, 1, 1):
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, width, 1, stride, bias=False), nn.GroupNorm(outer, width)
            )
        self.act = nn.SiLU()

    def forward(self, maps: Tensor, embedding: Tensor | None) -> Tensor:
        """``(B, C, T, h, w)`` and ``(B, E)``."""
        hidden = self.conv1(maps)
        if self.emb_layers is not None:
            hidden = hidden + self.emb_layers(embedding)[..., None, None, None]
        return self.act(self.conv3(self.conv2(hidden)) + self.downsample(maps))


class Layer(nn.ModuleList):
    """Bottlenecks in a row, the first of which changes width and grid."""

    def __init__(
        self,
        channels: int,
        width: int,
        groups: int,
        embedding: int,
        blocks: int,
        expansion: int,
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        middle = width // expansion
        first = Bottleneck(channels, width, middle, groups, embedding, stride)
        others = (Bottleneck(width, width, middle, groups, embedding, (1, 1, 1)) for _ in range(blocks - 1))
        super().__init__([first, *others])

    def forward(self, maps: Tensor, embedding: Tensor | None) -> Tensor:
        for block in self:
            maps = block(maps, embedding)
        return maps


class ViewBranch(nn.Module):
    """The feature maps of one view, joined from fine to coarse.

    Args:
        options: Of the adapter.
        channels: Width of every tap.
        strides: Spatial stride of the stage behind every tap.
        embedding: Width of the embedding of the level.
    """

    def __init__(self, options: Adapter, channels: Sequence[int], strides: Sequence[int], embedding: int) -> None:
        super().__init__()
        self.merges, self.stages, self.squeeze = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for tap, (width, groups) in zip(channels[1:], options.merges, strict=True):
            self.merges.append(Layer(tap, width, groups, embedding, options.blocks, options.expansion))
        arriving = channels[0]
        for index, (width, groups) in enumerate(options.stages):
            stride = (1, strides[index], strides[index])
            self.stages.append(Layer(arriving, width, groups, embedding, options.blocks, options.expansion, stride))
            arriving = width + (options.merges[index][0] if index < len(options.merges) else 0)
        for width, groups in options.squeeze:
            self.squeeze.append(Layer(arriving, width, groups, embedding, options.blocks, options.expansion))
            arriving = width
        self.width = arriving

    def forward(self, maps: list[Tensor], embedding: Tensor | None) -> Tensor:
        """Per tap ``(B, C, T, h, w)``, fine to coarse."""
        hidden = self.stages[0](maps[0], embedding)
        for tap, merge, stage in zip(maps[1:], self.merges, self.stages[1:], strict=True):
            hidden = stage(torch.cat([hidden, merge(tap, embedding)], dim=1), embedding)
        for layer in self.squeeze:
            hidden = layer(hidden, embedding)
        return hidden


class CnnAdapter(nn.Module):
    """See `vpolicy_video_policy.options.Adapter` for the options.

    Args:
        options: Widths, groups and depths.
        views: V.
        channels: Width of every tap, fine to coarse.
        strides: Spatial stride of the stage behind every tap.
        embedding: Width E of the embedding of the level, 0 for none.
    """

    def __init__(
        self, options: Adapter, views: int, channels: Sequence[int], strides: Sequence[int], embedding: int
    ) -> None:
        super().__init__()
        branches = [ViewBranch(options, channels, strides, embedding) for _ in range(views)]
        self.branches, self.trunk = nn.ModuleList(branches), nn.ModuleList()
        arriving = sum(branch.width for branch in branches)
        for width, groups in options.trunk:
            self.trunk.append(Layer(arriving, width, groups, embedding, options.blocks, options.expansion))
            arriving = width
        deep = [(options.blocks, 1)] * options.deep_layers + [(options.halving_blocks, 2)] * options.halvings
        for blocks, stride in deep:
            groups, expansion = options.deep_groups, options.deep_expansion
            self.trunk.append(Layer(arriving, arriving, groups, embedding, blocks, expansion, (stride, 1, 1)))
        self.norm = nn.GroupNorm(options.norm_groups, arriving)

    def forward(self, maps: Sequence[Tensor], embedding: Tensor | None) -> Tensor:
        """Condense the feature maps.

        Args:
            maps: Per tap ``(B, V, T, C, h, w)``, fine to coarse.
            embedding: ``(B, E)``.

        Returns:
            Tokens ``(B, t h w, D)``; t is what remains of T, h x w the grid of the last tap.
        """
        branches = [
            branch([tap[:, view].transpose(1, 2) for tap in maps], embedding)
            for view, branch in enumerate(self.branches)
        ]
        hidden = torch.cat(branches, dim=1)
        for layer in self.trunk:
            hidden = layer(hidden, embedding)
        return self.norm(hidden).flatten(2).transpose(1, 2)
