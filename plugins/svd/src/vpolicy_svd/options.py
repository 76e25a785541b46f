"""Groups of options: the autoencoder, the shape of the network, what it is conditioned on, augmentation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from videopolicy.parts.options import Options


class VaeLatent(Options):
    """Stable Video Diffusion's autoencoder (diffusers' ``AutoencoderKLTemporalDecoder``), always frozen.

    Args:
        channels: Widths of its levels; each level but the last halves the image.
        layers: Residual layers per level.
        latent_channels: c.
        scaling_factor: What latents are multiplied with for the UNet.
        training_latents: Latents that training sees. The official preparation stores a sample of the
            posterior; conditioning and everything at test time use its mode.
        decode_frames: Frames decoded at a time.
        condition_encoder: Who encodes the image that the model is conditioned on. ``own`` is a second encoder, as
            Stable Video Diffusion's first code base has it and Video Policy's checkpoints carry it.
        precision: ``float32`` computes in single precision in mixed-precision training too, as Video Policy's code does
            (``disable_first_stage_autocast``); ``autocast`` in the numbers of the rest. VPP's code has the whole
            autoencoder in half precision.
    """

    type: Literal["vae"] = "vae"
    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = Field(2, ge=1)
    latent_channels: int = Field(4, ge=1)
    scaling_factor: float = 0.18215
    training_latents: Literal["sample", "mode"] = "sample"
    decode_frames: int = Field(7, ge=1)
    condition_encoder: Literal["shared", "own"] = "shared"
    precision: Literal["float32", "autocast"] = "float32"

    @property
    def patch(self) -> int:
        return 2 ** (len(self.channels) - 1)


class UNet(Options):
    """Shape of diffusers' ``UNetSpatioTemporalConditionModel``; the defaults are Stable Video Diffusion's.

    Args:
        channels: Widths of the levels, multiples of 32 (group normalisation); each level but the last
            halves the latent.
        heads: Attention heads of each level.
        attention: Which levels attend to text and over time; the innermost has its own in the middle.
        layers: Residual layers of each level on the way down (one more on the way up).
        transformer_layers: Transformer layers behind every residual layer of an attending level.
        time_ids_width: Width of the embedding of each of the three conditioning numbers.
        norm_epsilon: Of the group normalisations outside the transformers. diffusers has 1e-6 in most of them,
            Stable Video Diffusion's first code base (``sgm``) has 1e-5 in all, and was trained with it.
    """

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    attention: tuple[bool, ...] = (True, True, True, False)
    layers: int = Field(2, ge=1)
    transformer_layers: int = Field(1, ge=1)
    time_ids_width: int = Field(256, ge=2)
    norm_epsilon: Literal["diffusers", "sgm"] = "diffusers"

    @model_validator(mode="after")
    def _fits(self) -> UNet:
        if not len(self.channels) == len(self.heads) == len(self.attention) > 0:
            raise ValueError(
                f"channels, heads and attention name the same levels, but have {len(self.channels)}, "
                f"{len(self.heads)} and {len(self.attention)} entries"
            )
        for channels, heads in zip(self.channels, self.heads, strict=True):
            if channels % 32 or channels % heads:
                raise ValueError(f"channels {channels} must be a multiple of 32 and of its {heads} heads")
        return self


class MicroConditioning(Options):
    """The three numbers that Stable Video Diffusion is conditioned on besides image and text.

    Args:
        fps: Frames a second.
        motion_bucket: Amount of motion.
        noise_augmentation: Level of the noise on the image.
    """

    fps: float = 7
    motion_bucket: float = 127
    noise_augmentation: float = 0.0


class ColorJitter(Options):
    """torchvision's ``ColorJitter``: the same change for all frames of a view, another one for every view."""

    brightness: float = Field(0.2, ge=0)
    contrast: float = Field(0.2, ge=0)
    saturation: float = Field(0.2, ge=0)
    hue: float = Field(0.05, ge=0, le=0.5)
