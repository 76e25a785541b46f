"""Images to latents and back."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available

from videopolicy.parts.latents import SpaceToDepthLatent
from vpolicy_svd.loading import loaded_part
from vpolicy_svd.options import VaeLatent


class SpaceToDepth(nn.Module):
    """Patches to channels: ``(N, 3, H, W)`` to ``(N, 3 p p, H/p, W/p)``, scaled, and back."""

    def __init__(self, options: SpaceToDepthLatent) -> None:
        super().__init__()
        self.options, self.scaling_factor = options, options.scaling_factor

    def encode(self, images: Tensor, sample: bool = False) -> Tensor:
        return self.options.encode(images)

    def condition(self, images: Tensor) -> Tensor:
        """What the model is conditioned on of an image: its latent without the scale."""
        return self.options.cells(images)

    def decode(self, latents: Tensor, frames: int) -> Tensor:
        return self.options.decode(latents)


class Vae(nn.Module):
    """The frozen autoencoder.

    Raises:
        WeightsError: The weights are unreachable, incomplete, or of another shape.
    """

    def __init__(self, options: VaeLatent, weights: str | None) -> None:
        super().__init__()
        self.options, self.scaling_factor = options, options.scaling_factor
        self.vae = _autoencoder(options, weights).requires_grad_(False).eval()
        self.condition_vae: ConditionEncoder | None = None
        if options.condition_encoder == "own":
            self.condition_vae = ConditionEncoder(_autoencoder(options, weights)).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Vae:
        return super().train(False)

    @torch.no_grad()
    def encode(self, images: Tensor, sample: bool = False) -> Tensor:
        """Images ``(N, 3, H, W)`` in [-1, 1] to scaled latents ``(N, c, h, w)``.

        Args:
            sample: Draw from the posterior instead of taking its mode; only where the options say so.
        """
        with self._precisely(images):
            posterior = self.vae.encode(images.to(self.vae.dtype)).latent_dist
        drawn = sample and self.options.training_latents == "sample"
        return (posterior.sample() if drawn else posterior.mode()) * self.scaling_factor

    @torch.no_grad()
    def condition(self, images: Tensor) -> Tensor:
        """Of images ``(N, 3, H, W)`` that condition the model: the posterior's mode ``(N, c, h, w)``, not scaled."""
        with self._precisely(images):
            images = images.to(self.vae.dtype)
            if self.condition_vae is not None:
                return self.condition_vae(images)
            return self.vae.encode(images).latent_dist.mode()

    @torch.no_grad()
    def decode(self, latents: Tensor, frames: int) -> Tensor:
        """Scaled latents ``(N * frames, c, h, w)`` to images, ``decode_frames`` at a time within a clip."""
        images = []
        with self._precisely(latents):
            for clip in (latents.to(self.vae.dtype) / self.scaling_factor).split(frames):
                for chunk in clip.split(self.options.decode_frames):
                    images.append(self.vae.decode(chunk, num_frames=len(chunk)).sample)
        return torch.cat(images)

    def _precisely(self, like: Tensor) -> AbstractContextManager[object]:
        """Without the autocast around it, unless the options want that."""
        kind = like.device.type
        if self.options.precision == "autocast" or not is_autocast_available(kind):
            return nullcontext()
        return torch.autocast(kind, enabled=False)


class ConditionEncoder(nn.Module):
    """The encoding half of an autoencoder.

    Args:
        autoencoder: Whose half it is; it is used up.
    """

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.encoder, self.quant_conv = autoencoder.encoder, autoencoder.quant_conv

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` to the mean of their posterior ``(N, c, h, w)``."""
        return self.quant_conv(self.encoder(images)).chunk(2, dim=1)[0]


def _autoencoder(options: VaeLatent, weights: str | None) -> Any:
    from diffusers import AutoencoderKLTemporalDecoder

    make = partial(
        AutoencoderKLTemporalDecoder,
        down_block_types=("DownEncoderBlock2D",) * len(options.channels),
        block_out_channels=options.channels,
        layers_per_block=options.layers,
        latent_channels=options.latent_channels,
        scaling_factor=options.scaling_factor,
    )
    return loaded_part(make, weights, "vae", "The autoencoder", ("scaling_factor",))
