"""Anybody's features, condensed by a former."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from videopolicy import (
    Batch,
    Branch,
    CachesFeatures,
    FeatureExtractor,
    FeatureLayout,
    FeatureStream,
    Observation,
    RowGenerator,
    Spaces,
    StaticStream,
    Window,
)
from vpolicy_vpp.formers import LinearFormer, VideoFormerModule, build_former
from vpolicy_vpp.options import ResampledOptions, frames_and_places


class ResampledExtractor(FeatureExtractor):
    """See `vpolicy_vpp.options.ResampledOptions` for the options and their sources."""

    def __init__(self, options: ResampledOptions, spaces: Spaces) -> None:
        super().__init__()
        self._layout = options.layout(spaces)
        self.extractor = options.extractor.build(spaces)
        self.reader = FrameReader(options, options.extractor.layout(spaces))
        self.every_parameter_learns = self.extractor.every_parameter_learns

    @property
    def window(self) -> Window:
        return self.extractor.window

    @property
    def layout(self) -> FeatureLayout:
        return self._layout

    @property
    def features_are_frozen(self) -> bool:
        return isinstance(self.extractor, CachesFeatures) and self.extractor.features_are_frozen

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [*self.extractor.parameter_groups(), {"params": list(self.reader.parameters())}]

    def stream(
        self,
        observation: Observation,
        batch: Batch | None = None,
        generator: RowGenerator | None = None,
    ) -> FeatureStream:
        inner = self.extractor.stream(observation, batch, generator)
        if isinstance(inner, StaticStream):  # condensed once, however many levels there are
            found = StaticStream(observation, self.layout, self.reader.branches(inner.branches))
            found.losses = inner.losses
            return found
        return ResampledStream(inner, self.reader, self.layout)

    def frozen_features(self, observation: Observation, generator: RowGenerator | None) -> Tensor:
        """Those of the extractor inside, before the former."""
        assert isinstance(self.extractor, CachesFeatures)
        return self.extractor.frozen_features(observation, generator)


class FrameReader(nn.Module):
    """A former on tokens that stand in one row, frame by frame.

    Args:
        options: The former and the positions that its tokens get.
        layout: Of what is read.
    """

    positions: Tensor

    def __init__(self, options: ResampledOptions, layout: FeatureLayout) -> None:
        super().__init__()
        self.frames, places = frames_and_places(layout)
        self.register_buffer("positions", fourier(places, options.position_bands), persistent=False)
        channels = layout.dim + self.positions.shape[-1]
        self.former: VideoFormerModule | LinearFormer = build_former(options.former, channels, self.frames)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, T n, C)`` to ``(B, N, D)``."""
        weight = next(self.former.parameters())
        features = tokens.to(weight.dtype).unflatten(1, (self.frames, -1))
        if self.positions.shape[-1]:
            places = self.positions.to(features).expand(*features.shape[:2], -1, -1)
            features = torch.cat([features, places], dim=-1)
        return self.former(features)

    def branches(self, found: list[Branch]) -> list[Branch]:
        return [replace(branch, tokens=self(branch.tokens)) for branch in found]


class ResampledStream(FeatureStream):
    """Another stream's features behind a former."""

    def __init__(self, inner: FeatureStream, reader: FrameReader, layout: FeatureLayout) -> None:
        super().__init__(inner.observation, layout)
        self.inner, self.reader = inner, reader
        self.losses = inner.losses
        self.video_frames, self.actions = inner.video_frames, inner.actions

    def at(self, level: Tensor) -> list[Branch]:
        self.inner.actions = self.actions
        return self.reader.branches(self.inner.at(level))

    def descend(self, levels: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Branch]]]:
        self.inner.actions = self.actions
        for level, following, branches in self.inner.descend(levels):
            yield level, following, self.reader.branches(branches)


def fourier(places: tuple[int, ...], bands: int) -> Tensor:
    """Positions on a grid, ``(n, axes (2 bands + 1))``: of every axis the place in [-1, 1], sines and cosines.

    Frequencies are equally spaced from 1 to half the axis' size (Jaegle et al. 2021, section 3.2).

    Args:
        places: Sizes of the axes, the last one fastest.
        bands: Frequencies of an axis; 0: nothing, of width 0.
    """
    if not bands:
        return torch.zeros(math.prod(places), 0)
    found = []
    for size in places:
        place = torch.linspace(-1, 1, size)
        angles = torch.pi * place[:, None] * torch.linspace(1, max(size / 2, 1), bands)
        found.append(torch.cat([place[:, None], angles.sin(), angles.cos()], dim=1))
    grid = torch.cartesian_prod(*(torch.arange(size) for size in places)).view(-1, len(places))
    return torch.cat([axis[grid[:, number]] for number, axis in enumerate(found)], dim=1)
