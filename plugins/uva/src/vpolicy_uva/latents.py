"""Images to latents and back, and the memory that spares encoding an image twice."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available
from torch.nn import functional

from videopolicy import MeasuredPart, RowGenerator, WeightsError, normal_noise, to_device
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.parts.weights import ensure_no_differences, explain_loading, pretrained_folder, without_loading
from vpolicy_uva.fast import accelerate
from vpolicy_uva.options import CosineLatent, KlLatent
from vpolicy_uva.weight_files import AUTOENCODER, AUTOENCODER_FILES

LUMA_CHROMA = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
"""Brightness and colour differences of red, green and blue (JFIF)."""
REMEMBERED = 1024
"""Images whose latents are kept: 32 KiB each at the official size."""


class Latents(nn.Module, ABC):
    """Turns images into latents. What depends on the image alone (``moments``) is apart from drawing the latent."""

    measured_parts: ClassVar[dict[str, MeasuredPart]] = {"moments": "encode", "decode": "decode"}
    costly: ClassVar[bool]
    """Whether moments are worth remembering."""

    @abstractmethod
    def moments(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` in [-1, 1] to what their latents are drawn from ``(N, m, h, w)``."""

    @abstractmethod
    def draw(self, moments: Tensor, generator: RowGenerator | None) -> Tensor:
        """Scaled latents ``(B, ..., c, h, w)`` of moments ``(B, ..., m, h, w)``."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents ``(N, c, h, w)`` to images ``(N, 3, H, W)``, about in [-1, 1]."""


class SpaceToDepth(Latents):
    """Patches to channels: ``(N, 3, H, W)`` to ``(N, 3 p p, H/p, W/p)``, scaled, and back."""

    costly = False

    def __init__(self, options: SpaceToDepthLatent) -> None:
        super().__init__()
        self.options = options

    def moments(self, images: Tensor) -> Tensor:
        return self.options.encode(images)

    def draw(self, moments: Tensor, generator: RowGenerator | None) -> Tensor:
        return moments

    def decode(self, latents: Tensor) -> Tensor:
        return self.options.decode(latents)


class CosineTransform(Latents):
    """Blocks to coefficients and back, each way one convolution."""

    costly = False
    forwards: Tensor
    backwards: Tensor

    def __init__(self, options: CosineLatent) -> None:
        super().__init__()
        self.patch = options.patch
        basis = dct(np.eye(options.patch), norm="ortho", axis=0)
        frequencies = sorted(product(range(options.patch), repeat=2), key=lambda pair: (sum(pair), pair))
        forwards, backwards = [], []
        for channel, count in enumerate((options.luma, options.chroma, options.chroma)):
            for u, v in frequencies[:count]:
                block = np.outer(basis[u], basis[v])
                scale = options.scaling_factor / options.patch * (1 + u + v)
                forwards.append(scale * LUMA_CHROMA[channel, :, None, None] * block)
                backwards.append(np.linalg.inv(LUMA_CHROMA)[:, channel, None, None] * block / scale)
        for name, kernels in (("forwards", forwards), ("backwards", backwards)):
            self.register_buffer(name, torch.tensor(np.stack(kernels), dtype=torch.float32), persistent=False)

    def moments(self, images: Tensor) -> Tensor:
        return functional.conv2d(images, self.forwards, stride=self.patch)

    def draw(self, moments: Tensor, generator: RowGenerator | None) -> Tensor:
        return moments

    def decode(self, latents: Tensor) -> Tensor:
        return functional.conv_transpose2d(latents, self.backwards, stride=self.patch)


class KlAutoencoder(Latents):
    """The frozen autoencoder (``vaekl.py``).

    Raises:
        WeightsError: The weights are unreachable, incomplete, or of another shape.
    """

    costly = True

    def __init__(self, options: KlLatent) -> None:
        super().__init__()
        self.options = options
        self.vae = _autoencoder(options).requires_grad_(False).eval()
        accelerate(self.vae)

    def train(self, mode: bool = True) -> KlAutoencoder:
        return super().train(False)

    @torch.no_grad()
    def moments(self, images: Tensor) -> Tensor:
        """Mean and logarithm of the variance of the posterior, ``m = 2 c``."""
        with self._precisely(images):
            return self.vae.encode(images.to(self.vae.dtype)).latent_dist.parameters

    @torch.no_grad()
    def draw(self, moments: Tensor, generator: RowGenerator | None) -> Tensor:
        mean, log_variance = moments.chunk(2, dim=-3)
        if self.options.posterior == "sample":
            deviation = (0.5 * log_variance.clamp(-30, 20)).exp()
            mean = mean + deviation * normal_noise(tuple(mean.shape), mean, generator)
        return mean * self.options.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        with self._precisely(latents):
            return self.vae.decode(latents.to(self.vae.dtype) / self.options.scaling_factor).sample

    def _precisely(self, like: Tensor) -> AbstractContextManager[object]:
        """Without the autocast around it, unless the options want that."""
        kind = like.device.type
        if self.options.precision == "autocast" or not is_autocast_available(kind):
            return nullcontext()
        return torch.autocast(kind, enabled=False)


def build_latents(options: KlLatent | SpaceToDepthLatent | CosineLatent) -> Latents:
    """The module that options describe."""
    match options:
        case SpaceToDepthLatent():
            return SpaceToDepth(options)
        case CosineLatent():
            return CosineTransform(options)
        case KlLatent():
            return KlAutoencoder(options)


def _autoencoder(options: KlLatent) -> Any:
    from diffusers import AutoencoderKL

    levels = len(options.channels)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * (levels - 1) + ("AttnDownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=options.channels,
        layers_per_block=options.layers,
        latent_channels=options.latent_channels,
        scaling_factor=options.scaling_factor,
    )
    if options.weights is None or without_loading():
        return model
    what, files = AUTOENCODER, AUTOENCODER_FILES
    folder = pretrained_folder(options.weights, what, files)
    with explain_loading(folder, what, files):
        import json

        from safetensors.torch import load_file

        scale = json.loads((folder / files[0]).read_text(encoding="utf-8")).get("scaling_factor")
        state = load_file(folder / files[1])
        own = model.state_dict()
        ensure_no_differences(str(folder), own.keys() - state.keys(), state.keys() - own.keys())
        if scale is not None and scale != options.scaling_factor:
            raise WeightsError(
                f"{what} in {folder} has the scaling factor {scale}, and the recipe says {options.scaling_factor}.",
                "Set `latent.scaling_factor` to that of the weights.",
            )
        model.load_state_dict(state)
    return model


def to_pixels(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bytes ``(N, 3, h, w)`` to ``(N, 3, H, W)`` in [-1, 1], resized bilinearly as floats (``resize_image``)."""
    pixels = images.float()
    if tuple(images.shape[-2:]) != tuple(size):
        pixels = functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
    return pixels / 127.5 - 1


class FrameMemory:
    """Moments of images that were seen before, found by the images' content.

    On the processor every image is encoded by itself, so that what is remembered is, to the last bit, what would be
    computed again, whatever shares its batch. Accelerators encode all new images at once.

    Args:
        latents: Encodes what is new.
        size: Height and width that images are resized to.
    """

    def __init__(self, latents: Latents, size: tuple[int, int]) -> None:
        self._latents, self._size = latents, size
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()
        self.encoded = 0
        """Images encoded so far."""

    def forget(self) -> None:
        """Other weights give other latents."""
        self._known.clear()

    def moments(self, images: Tensor) -> Tensor:
        """Moments ``(N, m, h, w)`` of bytes ``(N, 3, H, W)``."""
        if images.is_meta:  # shapes alone have no content
            return self._latents.moments(to_pixels(images, self._size))
        keys = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images.cpu().numpy()]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            rows = to_device(torch.tensor(list(new.values())), images.device)
            pixels = to_pixels(images[rows], self._size)
            group = 1 if pixels.device.type == "cpu" else len(pixels)
            found = torch.cat([self._latents.moments(part) for part in pixels.split(group)])
            self._known.update(zip(new, found.unbind(), strict=True))
            self.encoded += len(new)
        for key in keys:
            self._known.move_to_end(key)
        moments = torch.stack([self._known[key] for key in keys])
        while len(self._known) > max(REMEMBERED, len(keys)):
            self._known.popitem(last=False)
        return to_device(moments, images.device)
