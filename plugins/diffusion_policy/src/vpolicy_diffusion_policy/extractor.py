"""Images through one encoder for every camera."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

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
from videopolicy.parts.requirements import required_state
from vpolicy_diffusion_policy.encoders import ResNetEncoder, TimmEncoder
from vpolicy_diffusion_policy.options import ClassToken, ImageOptions, ResNet
from vpolicy_diffusion_policy.pooling import pooling

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageExtractor(FeatureExtractor):
    """See `vpolicy_diffusion_policy.options.ImageOptions` for the options and their sources."""

    every_parameter_learns = True

    def __init__(self, options: ImageOptions, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self._layout = options.layout(spaces)
        self.cameras = [camera.name for camera in spaces.cameras]
        # A list and not a dictionary by name: modules cannot have every name that cameras have.
        self.encoders = nn.ModuleList(_encoder(options, size) for size in options.sizes(spaces))
        self.text = None if options.text is None else options.text.build()

    @property
    def window(self) -> Window:
        return self.options.window()

    @property
    def layout(self) -> FeatureLayout:
        return self._layout

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        encoders: dict[str, Any] = {
            "params": list(self.encoders.parameters()),
            "lr_scale": self.options.learning_rate,
        }
        if self.options.weight_decay is not None:
            encoders["weight_decay"] = self.options.weight_decay
        if self.text is None:
            return [encoders]
        return [encoders, {"params": [parameter for parameter in self.text.parameters() if parameter.requires_grad]}]

    def stream(
        self,
        observation: Observation,
        batch: Batch | None = None,
        generator: RowGenerator | None = None,
    ) -> StaticStream:
        augmented = self.training and batch is not None
        views = [
            self._tokens(encoder, observation.images[camera], augmented)
            for camera, encoder in zip(self.cameras, self.encoders, strict=True)
        ]
        joined = self.options.views == "joined"
        tokens = torch.cat(views, dim=-1) if joined else torch.cat(views, dim=2)  # (B, T, n, V D) or (B, T, V n, D)
        if self.options.proprioception:
            state = required_state(observation, "The extractor").to(tokens)[:, :, None]
            tokens = torch.cat([tokens, state.expand(-1, -1, tokens.shape[2], -1)], dim=-1)
        if self.text is not None:
            text = self.text(observation.instructions).pooled.to(tokens)[:, None, None]
            tokens = torch.cat([tokens, text.expand(-1, *tokens.shape[1:3], -1)], dim=-1)
        return StaticStream(observation, self.layout, [Branch(1.0, tokens.flatten(1, 2))])

    def _tokens(self, encoder: nn.Module, images: Tensor, augmented: bool) -> Tensor:
        """Of one camera, ``(B, T, 3, H, W)`` bytes to ``(B, T, n, D)``."""
        weight = next(encoder.parameters())
        pixels = self._seen(images.flatten(0, 1).to(weight.device), augmented).to(weight.dtype)
        tokens: Tensor = encoder(pixels)
        return tokens.unflatten(0, images.shape[:2])

    def _seen(self, images: Tensor, augmented: bool) -> Tensor:
        """What the encoder sees ``(N, 3, h, w)`` of images ``(N, 3, H, W)`` in bytes."""
        options = self.options
        if options.resize is not None:
            images = v2.functional.resize(images, list(options.resize), antialias=True)
        size = list(images.shape[-2:])
        if options.crop is not None:
            images = (
                random_crops(images, options.crop) if augmented else v2.functional.center_crop(images, options.crop)
            )
        if options.restore:
            images = v2.functional.resize(images, size, antialias=True)
        pixels = images.float() / 255
        if options.color_jitter is not None and augmented:
            jitter = options.color_jitter
            pixels = v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)(pixels)
        if options.scaling == "imagenet":
            return v2.functional.normalize(pixels, list(IMAGENET_MEAN), list(IMAGENET_DEVIATION))
        return pixels * 2 - 1


def _encoder(options: ImageOptions, size: tuple[int, int]) -> nn.Module:
    """Image to tokens, for one camera."""
    encoder: nn.Module
    if isinstance(options.encoder, ResNet):
        encoder = ResNetEncoder(options.encoder)
    else:
        encoder = TimmEncoder(options.encoder, size, isinstance(options.pool, ClassToken))
    return nn.Sequential(encoder, pooling(options.pool, options.encoder.dim, options.encoder.grid(size)))


def random_crops(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut ``(N, C, h, w)`` out of ``(N, C, H, W)``, at another random place of every image."""
    count, _, *whole = images.shape
    rows, columns = (
        torch.randint(0, space - cut + 1, (count, 1), device=images.device) + torch.arange(cut, device=images.device)
        for space, cut in zip(whole, size, strict=True)
    )
    each = torch.arange(count, device=images.device)[:, None, None]
    # Indices on both sides of the channels bring the channels to the end.
    return images[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
