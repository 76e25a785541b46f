"""Options of the components, and groups of them: image encoders, what pools their features, the diffusion over actions.

Defaults are the official code's (github.com/real-stanford/diffusion_policy, commit 5ba07ac: its image policies with
robomimic's encoder), whose paper is Chi et al. 2023 (arXiv 2303.04137). What the later code for UMI has, which other
papers train as their baseline (github.com/real-stanford/universal_manipulation_interface, commit d095ba9), is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import AnyText, FeatureLayout, Spaces, TextComponent, WhenActing, Window
from videopolicy.parts.options import Options
from videopolicy.parts.weights import pretrained_folder

Positive = Annotated[int, Field(ge=1)]
Size = tuple[Positive, Positive]
"""Height and width in pixels."""

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
    """torchvision's ``ColorJitter``, one change for all images of a camera in a batch; UMI's values.

    Args:
        brightness, contrast, saturation: Largest change of the factor 1.
        hue: Largest turn, 1 being the whole circle.
    """

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


class ImageOptions(Options):
    """Options of `image`.

    Args:
        encoder: The network, built once for every camera.
        pool: What makes one vector of an image's feature map, or keeps the map.
        views: ``joined``: the features of all cameras stand side by side in one token, so that a frame is one vector
            (the official code); ``apart``: every camera has tokens of its own.
        observed: Offsets of the frames that are seen, in steps; the last one is 0. Officially two.
        proprioception: Append the robot's state at every frame to that frame's tokens.
        text: Append the vector of what reads the instruction to every token, for decoders that do not read it
            themselves; None: nothing does.
        resize: Height and width that images are resized to first; None: as they come.
        crop: Height and width that are cut out of that: in training at random for each image, in the middle
            otherwise. None: the whole image. Officially 76 of 84 pixels, 84 of 96 on PushT.
        restore: Resize what was cut out to the size before, as UMI does.
        color_jitter: Change of colours in training; None: none. UMI has it, also when acting, which is left out here.
        scaling: Pixels to [-1, 1] (``symmetric``), or by mean and deviation of ImageNet (``imagenet``), which UMI does
            for all encoders.
        learning_rate: Of the encoders, in multiples of the stage's. UMI has 0.1 where they are pretrained.
        weight_decay: Of the encoders; None: the stage's. Officially 1e-6 beside a transformer, whose own is 1e-3
            (``obs_encoder_weight_decay``).
    """

    encoder: Annotated[ResNet | Timm, Field(discriminator="type")] = ResNet()
    pool: Annotated[SpatialSoftmax | Attention | Average | ClassToken | Grid, Field(discriminator="type")] = (
        SpatialSoftmax()
    )
    views: Literal["joined", "apart"] = "joined"
    observed: tuple[int, ...] = (-1, 0)
    proprioception: bool = True
    text: AnyText | None = None
    resize: Size | None = None
    crop: Size | None = None
    restore: bool = False
    color_jitter: ColorJitter | None = None
    scaling: Literal["symmetric", "imagenet"] = "symmetric"
    learning_rate: float = Field(1.0, gt=0)
    weight_decay: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> ImageOptions:
        Window(self.observed)  # rejects offsets that do not ascend to 0
        if isinstance(self.pool, ClassToken) and not isinstance(self.encoder, Timm):
            raise ValueError(f"encoder '{self.encoder.type}' has no class token; use another pool")
        if self.restore and self.crop is None:
            raise ValueError("restore brings back the size before the crop, and there is no crop")
        if self.crop and self.resize and any(cut > size for cut, size in zip(self.crop, self.resize, strict=True)):
            raise ValueError(f"crop {list(self.crop)} exceeds the images of {list(self.resize)} pixels")
        return self

    @property
    def vector(self) -> int:
        """Width of what one image gives, of every token where it gives several."""
        return self.pool.dim if isinstance(self.pool, SpatialSoftmax | Grid) else self.encoder.dim

    def sizes(self, spaces: Spaces) -> list[Size]:
        """What the encoder of every camera sees."""
        seen = [self.resize or (camera.height, camera.width) for camera in spaces.cameras]
        return seen if self.crop is None or self.restore else [self.crop] * len(seen)

    def window(self) -> Window:
        return Window(self.observed)

    def layout(self, spaces: Spaces) -> FeatureLayout:
        axes, dim = [("frames", len(self.observed))], self.vector
        if self.views == "apart":
            axes.append(("views", len(spaces.cameras)))
        else:
            dim *= len(spaces.cameras)
        if isinstance(self.pool, Grid):
            height, width = self.encoder.grid(self.sizes(spaces)[0])
            axes += [("height", height), ("width", width)]
        state = spaces.state.dim if self.proprioception and spaces.state else 0
        return FeatureLayout(dim + state + text_dim(self.text), tuple(axes))


class UNetDiffusionOptions(Options):
    """Options of `unet-diffusion`.

    Args:
        horizon: H, actions of a chunk; every level of the network but the last halves it.
        text: What reads the instruction, whose pooled vector joins the flattened tokens (Liang et al. 2025, appendix
            A.3); None: nothing does, as in the official code.
        down_dims: Widths of the levels. UMI, and the official code on real robots, have 256, 512, 1024.
        kernel: Of the convolutions.
        groups: Of the normalisations.
        step_dim: Width of the timestep's embedding.
        scale: Modulate by scale and bias; or by bias alone.
        diffusion: Schedule, training and sampling.
    """

    horizon: int = Field(16, ge=1)
    text: AnyText | None = None
    down_dims: tuple[Positive, ...] = Field((512, 1024, 2048), min_length=1)
    kernel: int = Field(5, ge=1)
    groups: int = Field(8, ge=1)
    step_dim: int = Field(128, ge=4)
    scale: bool = True
    diffusion: Diffusion = Diffusion()

    @model_validator(mode="after")
    def _fits(self) -> UNetDiffusionOptions:
        halvings = len(self.down_dims) - 1
        if self.horizon % 2**halvings:
            raise ValueError(
                f"horizon {self.horizon} must be a multiple of {2**halvings}: {len(self.down_dims)} down_dims halve it "
                f"{halvings} times"
            )
        if any(width % self.groups for width in self.down_dims):
            raise ValueError(f"down_dims {list(self.down_dims)} must be multiples of groups {self.groups}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd, so that the chunk keeps its length")
        if self.step_dim % 2:
            raise ValueError(f"step_dim {self.step_dim} must be even: sines and cosines")
        return self


class TransformerDiffusionOptions(Options):
    """Options of `transformer-diffusion`.

    Args:
        horizon: H, actions of a chunk.
        text: What reads the instruction, whose pooled vector is appended to every token; None: nothing does, as in the
            official code.
        width, layers, heads: Of the decoder.
        condition_layers: Layers of a transformer encoder over timestep and tokens; 0: a small network for each alone.
        dropout_embedding, dropout_attention: Probabilities; the second one also behind the feed-forward layers.
        causal: Actions attend only to themselves and earlier ones.
        causal_cross_attention: Action i attends only to the timestep and the first i + 1 tokens. In the official code
            chunks begin with the oldest observed frame, and this keeps actions from frames that come after them. Here
            chunks begin with the newest one, so that the same rule hides nothing (``false``).
        initial_deviation: Standard deviation of the weights at the start; None is torch's own, which grows as the width
            falls and suits short trainings of small networks.
        diffusion: Schedule, training and sampling.
    """

    horizon: int = Field(10, ge=1)
    text: AnyText | None = None
    width: int = Field(256, ge=4)
    layers: int = Field(8, ge=1)
    heads: int = Field(4, ge=1)
    condition_layers: int = Field(0, ge=0)
    dropout_embedding: float = Field(0.0, ge=0, lt=1)
    dropout_attention: float = Field(0.3, ge=0, lt=1)
    causal: bool = True
    causal_cross_attention: bool = False
    initial_deviation: float | None = Field(0.02, gt=0)
    diffusion: Diffusion = Diffusion()

    @model_validator(mode="after")
    def _fits(self) -> TransformerDiffusionOptions:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads {self.heads}")
        return self


def text_dim(text: TextComponent | None) -> int:
    """Width of the instruction's vector, 0 where nothing reads it."""
    return 0 if text is None else text.pooled_dim
