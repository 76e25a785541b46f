"""Tokens of an image encoder as features."""

from __future__ import annotations

from contextlib import nullcontext

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
)
from vpolicy_encoders.autoencoder import LatentEncoder
from vpolicy_encoders.images import seen
from vpolicy_encoders.options import Autoencoder, ImageEncoderOptions, Voltron
from vpolicy_encoders.timm_network import TimmEncoder
from vpolicy_encoders.voltron import VoltronEncoder


class ImageEncoderExtractor(FeatureExtractor):
    """See `vpolicy_encoders.options.ImageEncoderOptions` for the options and their sources."""

    def __init__(self, options: ImageEncoderOptions, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self._layout = options.layout(spaces)
        self.cameras = [camera.name for camera in spaces.cameras]
        self.text = None if options.text is None else options.text.build()
        self.encoder: TimmEncoder | VoltronEncoder | LatentEncoder
        if isinstance(options.encoder, Voltron):
            assert self.text is not None and options.text is not None, "the options require it"
            self.encoder = VoltronEncoder(options.encoder, options.text.dim, self.text)
        elif isinstance(options.encoder, Autoencoder):
            self.encoder = LatentEncoder(options.encoder)
        else:
            self.encoder = TimmEncoder(options.encoder)
        if options.frozen:
            self.requires_grad_(False).eval()
        # A pretrained network may have layers behind its tokens, which then have no gradient.
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

    def train(self, mode: bool = True) -> ImageEncoderExtractor:
        return super().train(mode and not self.options.frozen)

    def stream(
        self,
        observation: Observation,
        batch: Batch | None = None,
        generator: RowGenerator | None = None,
    ) -> StaticStream:
        if observation.features is not None:
            weight = next(self.encoder.parameters())
            tokens = observation.features.to(weight.device, weight.dtype)
        else:
            with torch.no_grad() if self.options.frozen else nullcontext():
                tokens = self._tokens(observation)
        return StaticStream(observation, self.layout, [Branch(1.0, tokens)])

    def frozen_features(self, observation: Observation, generator: RowGenerator | None) -> Tensor:
        """The tokens ``(B, N, D)``: there is nothing behind them."""
        with torch.no_grad():
            return self._tokens(observation)

    def _tokens(self, observation: Observation) -> Tensor:
        """Of the present frames, ``(B, V n, D)``."""
        encoder, options = self.encoder, self.options.encoder
        weight = next(encoder.parameters())
        views = [
            seen(observation.images[name][:, -1].to(weight.device), options, encoder.mean, encoder.deviation)
            for name in self.cameras
        ]
        pixels = torch.stack(views, dim=1).flatten(0, 1).to(weight.dtype)
        if isinstance(encoder, VoltronEncoder):
            assert self.text is not None
            text = self.text(observation.instructions)
            mask = None if text.mask is None else text.mask.repeat_interleave(len(views), dim=0)
            tokens = encoder(pixels, text.tokens.repeat_interleave(len(views), dim=0), mask)
        else:
            tokens = encoder(pixels)
        return tokens.unflatten(0, (-1, len(views))).flatten(1, 2)
