"""Groups of options: image encoders, what pools their features, and the diffusion over actions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import WhenActing
from videopolicy.parts.options import Options
from videopolicy.parts.weights import pretrained_folder

Positive = Annotated[int, Field(ge=1)]

WEIGHTS = "model.safetensors"
"""The file of weights in the folders that timm writes."""


class ResNet(Options):
    """A residual network from scratch, with group normalisation: ResNet-18 as it stands (He et al. 2015).

    robomimic's ``ResNet18Conv``, whose batch normalisations the official code replaces.

    Args:
        layers: Blocks of every stage.
        channels: Of every stage.
        strides: Of every stage, behind the stem's 4. Officially the map is 32 times smaller than the image: 2 x 2 of 64
            pixels, too coarse for keypoints.
        group_channels: Channels that are normalised together.
    """

    type: Literal["resnet"] = "resnet"
    layers: tuple[Positive, ...] = Field((2, 2, 2, 2), min_length=1)
    channels: tuple[Positive, ...] = Field((64, 128, 256, 512), min_length=1)
    strides: tuple[Positive, ...] = Field((1, 2, 2, 2), min_length=1)
    group_channels: int = Field(16, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> ResNet:
        if not len(self.layers) == len(self.channels) == len(self.strides):
            raise ValueError("layers, channels and strides are one each for every stage")
        if any(width % self.group_channels for width in self.channels):
            raise ValueError(
                f"channels {list(self.channels)} must be multiples of group_channels {self.group_channels}"
            )
        return self

    @property
    def dim(self) -> int:
        """Channels of the feature map."""
        return self.channels[-1]

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the feature map of an image of this size."""
        height, width = size
        for stride in (2, 2, *self.strides):
            height, width = -(-height // stride), -(-width // stride)
        return height, width


class Timm(Options):
    """Any network of timm, pretrained or not (``timm_obs_encoder.py`` of UMI).

    Args:
        model: Its name in timm.
        weights: Hub id or local folder with a safetensors file as timm writes it; None: from scratch.
        dim: Width of its features, so that a recipe can be checked without it. Building verifies it.
        stride: Pixels of the image for one place of the feature map: the patch of a vision transformer, 32 for most
            convolutional networks.
        group_norm: Replace batch normalisations by group normalisations of 16 channels. UMI does so unless the weights
            are pretrained.
    """

    type: Literal["timm"] = "timm"
    model: str = "vit_base_patch16_clip_224.openai"
    weights: str | None = None
    dim: int = Field(768, ge=1)
    stride: int = Field(16, ge=1)
    group_norm: bool = False

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the feature map of an image of this size."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def folder(self) -> Path | None:
        """The local folder with the weights, fetched where necessary; None from scratch.

        Raises:
            WeightsError: They cannot be had.
        """
        if self.weights is None:
            return None
        return pretrained_folder(self.weights, f"timm's {self.model}", [WEIGHTS])


class SpatialSoftmax(Options):
    """Expected places of learned keypoints, and a linear layer over them (robomimic's ``SpatialSoftmax``).

    Args:
        keypoints: Their number; each has two coordinates in [-1, 1].
        dim: Width behind the linear layer.
    """

    type: Literal["spatial-softmax"] = "spatial-softmax"
    keypoints: int = Field(32, ge=1)
    dim: int = Field(64, ge=1)


class Attention(Options):
    """CLIP's attention pooling: the mean asks, the whole map answers (UMI's ``attention_pool_2d``)."""

    type: Literal["attention"] = "attention"


class Average(Options):
    """The mean of the map."""

    type: Literal["average"] = "average"


class ClassToken(Options):
    """The class token of a vision transformer (UMI)."""

    type: Literal["class-token"] = "class-token"


class Grid(Options):
    """The map itself, one token for every place, behind one linear layer.

    Neither paper nor code has it: it is for decoders that read a grid.

    Args:
        dim: Width of the tokens.
    """

    type: Literal["grid"] = "grid"
    dim: int = Field(64, ge=1)


class ColorJitter(Options):
    """torchvision's ``ColorJitter``, one change for all images of a camera in a batch; UMI's values."""

    brightness: float = Field(0.3, ge=0)
    contrast: float = Field(0.4, ge=0)
    saturation: float = Field(0.5, ge=0)
    hue: float = Field(0.08, ge=0, le=0.5)


class Diffusion(Options):
    """Denoising diffusion over actions, by the schedulers of diffusers.

    Args:
        training_steps: T, timesteps of the schedule. UMI has 50.
        schedule: diffusers' name of it; ``squaredcos_cap_v2`` is the cosine of Nichol and Dhariwal (2021).
        predict: What the network predicts: the noise, or the clean actions.
        clip: Where the clean estimate is cut on either side of 0 in every sampling step, which fits actions that are
            normalised by their extremes; None: nowhere.
        noise_samples: Timesteps and noises drawn per sample and step of training; their features are computed once.
        input_perturbation: Further noise on the noisy actions, which is not asked for (Ning et al. 2023). UMI has 0.1.
        sampler: ``ddpm`` (ancestral) or ``ddim`` (deterministic).
        sampling_steps: Evenly spaced timesteps that sampling visits. UMI has 16 with ``ddim``.
    """

    training_steps: int = Field(100, ge=2)
    schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "squaredcos_cap_v2"
    predict: Literal["epsilon", "sample"] = "epsilon"
    clip: float | None = Field(1.0, gt=0)
    noise_samples: int = Field(1, ge=1)
    input_perturbation: float = Field(0.0, ge=0)
    sampler: Annotated[Literal["ddpm", "ddim"], WhenActing()] = "ddpm"
    sampling_steps: Annotated[int, WhenActing()] = Field(100, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Diffusion:
        if self.sampling_steps > self.training_steps:
            raise ValueError(f"sampling_steps {self.sampling_steps} exceed training_steps {self.training_steps}")
        return self
