"""Features of a video model after one forward."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise

import torch
from torch import Tensor

from videopolicy import (
    Batch,
    Branch,
    FeatureExtractor,
    FeatureLayout,
    Observation,
    RowGenerator,
    Spaces,
    StaticStream,
    Window,
    normal_noise,
    to_device,
)
from videopolicy.parts.levels import karras
from vpolicy_vpp.formers import LinearFormer, VideoFormerModule, build_former
from vpolicy_vpp.maps import FeatureMaps
from vpolicy_vpp.options import OneStepOptions


class OneStepExtractor(FeatureExtractor):
    """See `vpolicy_vpp.options.OneStepOptions` for the options and their sources."""

    def __init__(self, options: OneStepOptions, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self._layout = options.layout(spaces)
        self.views = len(spaces.cameras)
        self.backbone = options.backbone.build(spaces)
        if options.frozen:
            self.backbone.requires_grad_(False).eval()
        self.former: VideoFormerModule | LinearFormer = build_former(
            options.former, options.channels, len(options.frame_indices)
        )
        # What lies behind the last tap of a backbone that learns has no part in the features.
        self.every_parameter_learns = options.frozen

    @property
    def window(self) -> Window:
        return self.options.window()

    @property
    def layout(self) -> FeatureLayout:
        return self._layout

    @property
    def features_are_frozen(self) -> bool:
        return self.options.frozen

    def train(self, mode: bool = True) -> OneStepExtractor:
        super().train(mode)
        if self.options.frozen:
            self.backbone.eval()
        return self

    def stream(
        self,
        observation: Observation,
        batch: Batch | None = None,
        generator: RowGenerator | None = None,
    ) -> StaticStream:
        weight = next(self.former.parameters())
        if observation.features is not None:
            tokens = self.former(observation.features.to(weight.device, weight.dtype))
        else:
            with torch.no_grad() if self.options.frozen else nullcontext():
                maps = self._maps(observation, generator)
            tokens = self.former.of_maps(maps.of([one.to(weight.dtype) for one in maps.maps]))
        return StaticStream(observation, self.layout, [Branch(1.0, tokens)])

    def frozen_features(self, observation: Observation, generator: RowGenerator | None) -> Tensor:
        """Feature maps before the former, ``(B, T, V h w, C)``: the views side by side on the token axis."""
        with torch.no_grad():
            return self._maps(observation, generator).joined()

    def _maps(self, observation: Observation, generator: RowGenerator | None) -> FeatureMaps:
        """The taps of the frames that are read."""
        backbone, options = self.backbone, self.options
        condition = backbone.condition(observation, generator=generator)
        shape = (len(observation), *backbone.latent_shape)
        like = next(backbone.parameters())
        noise = like.new_zeros(shape) if options.noise == "zero" else normal_noise(shape, like, generator)
        levels = karras(options.schedule_steps, options.lowest_level, backbone.highest_level)
        levels = to_device(levels, like.device, like.dtype)
        noisy = levels[0] * noise
        for level, following in pairwise(levels[: options.denoising_steps]):
            clean = backbone.denoise(noisy, level.expand(shape[0]), condition).prediction
            assert clean is not None, "a backbone predicts unless asked not to"
            noisy = clean + (following / level) * (noisy - clean)
        level = levels[options.denoising_steps - 1].expand(shape[0])
        taps = backbone.denoise(noisy, level, condition, options.taps, predict=False).taps
        frames = slice(None) if options.frames is None else list(options.frames)
        return FeatureMaps([taps[tap][:, :, frames] for tap in options.taps], options.resize, options.pool)
