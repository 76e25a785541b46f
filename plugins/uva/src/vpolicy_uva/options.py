"""Options of `uva-action`, and groups of options: autoencoders, the transformer and the diffusion heads.

Defaults: github.com/ShuangLI59/unified_video_action (288e154), base size.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import WhenActing
from videopolicy.parts.options import Options

Mode = Literal["policy", "video", "forward", "inverse", "full"]
Aggregation = Literal["conv_fc", "conv_ori", "conv2", "fc2"]


class KlLatent(Options):
    """The frozen autoencoder kl-f16 of MAR (Li et al. 2024) as diffusers' ``AutoencoderKL``.

    Args:
        weights: Folder with ``config.json`` and ``diffusion_pytorch_model.safetensors`` as diffusers writes it, which
            ``vpolicy import kl-f16`` makes of the official ``kl16.ckpt``, or a hub id. None: random weights, for
            recipes whose stages bring their own.
        channels: Widths of its levels; each level but the last halves the image.
        layers: Residual layers per level.
        latent_channels: c.
        scaling_factor: What latents are multiplied with.
        posterior: The official code draws latents from the posterior, when acting too; ``mode`` takes its mean.
        precision: ``float32`` computes in single precision in mixed-precision training too. The official code computes
            the autoencoder in the half precision of the rest, which ``autocast`` does.
    """

    type: Literal["kl"] = "kl"
    weights: str | None = None
    channels: tuple[int, ...] = (128, 128, 256, 256, 512)
    layers: int = Field(2, ge=1)
    latent_channels: int = Field(16, ge=1)
    scaling_factor: float = 0.2325
    posterior: Literal["sample", "mode"] = "sample"
    precision: Literal["float32", "autocast"] = "float32"

    @property
    def patch(self) -> int:
        return 2 ** (len(self.channels) - 1)


class CosineLatent(Options):
    """The lowest frequencies of a blockwise cosine transform, as in JPEG: few channels without any weights.

    A token of 192 raw numbers asks more of a small diffusion head than one of 16: the noise that it must predict has
    as many dimensions.

    Args:
        patch: Side of a block in pixels; every block becomes one token.
        luma, chroma: Coefficients kept of the brightness, and of each of the two colour differences.
        scaling_factor: What coefficients are multiplied with, besides 1 + their order: the amplitude of natural images
            falls about with the frequency, and the diffusion expects a deviation of about 1.
    """

    type: Literal["cosine"] = "cosine"
    patch: int = Field(8, ge=1)
    luma: int = Field(10, ge=1)
    chroma: int = Field(3, ge=1)
    scaling_factor: float = Field(7.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> CosineLatent:
        if max(self.luma, self.chroma) > self.patch**2:
            raise ValueError(f"a block of {self.patch} x {self.patch} pixels has {self.patch**2} coefficients")
        return self

    @property
    def latent_channels(self) -> int:
        return self.luma + 2 * self.chroma


class Transformer(Options):
    """Shape of the masked joint transformer; the defaults are MAR's base size, which all official configurations use.

    Args:
        width, depth, heads: Of the encoder.
        decoder_width, decoder_depth, decoder_heads: Of the decoder; None: as the encoder.
        mlp_ratio: Hidden width of the feed-forward layers, in multiples of the width.
        attention_dropout, dropout: On attention weights; behind attention and in the feed-forward layers.
        checkpointing: Compute activations again on the way back instead of keeping them.
    """

    width: int = Field(768, ge=2)
    depth: int = Field(12, ge=1)
    heads: int = Field(12, ge=1)
    decoder_width: int | None = Field(None, ge=2)
    decoder_depth: int | None = Field(None, ge=1)
    decoder_heads: int | None = Field(None, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    attention_dropout: float = Field(0.1, ge=0, lt=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    checkpointing: bool = False

    @property
    def out_width(self) -> int:
        """Width of the joint latent."""
        return self.decoder_width or self.width

    @property
    def decoder_shape(self) -> tuple[int, int, int]:
        """Width, depth and heads of the decoder."""
        return self.out_width, self.decoder_depth or self.depth, self.decoder_heads or self.heads

    @model_validator(mode="after")
    def _fits(self) -> Transformer:
        width, _, heads = self.decoder_shape
        for name, size, count in (("width", self.width, self.heads), ("decoder_width", width, heads)):
            if size % count:
                raise ValueError(f"{name} {size} is not a multiple of its {count} heads")
        return self


class Head(Options):
    """A diffusion head: a residual MLP that denoises one vector on a condition (``SimpleMLPAdaLN`` of MAR).

    Args:
        width, depth: Of the MLP.
        training_steps: Of the cosine schedule.
        sampling_steps: Of the respaced schedule that sampling follows. Paper: 100 in simulation, 16 on the robot.
        temperature: Scale of the noise that every sampling step adds.
        clip: Cut the clean estimate of every sampling step to this much on either side of 0; None: leave it. The
            official code leaves the video's. At the noisiest steps an error of the noise is multiplied by thousands,
            and a head that was trained briefly then leaves the range of what it has ever seen.
        noise_samples: Levels and noises drawn per vector and step of training, which share its condition. The
            official code draws one (``diffusion_batch_mul`` is read and never used), MAR four.
    """

    width: int = Field(1024, ge=2)
    depth: int = Field(6, ge=1)
    training_steps: int = Field(1000, ge=2)
    sampling_steps: Annotated[int, WhenActing()] = Field(100, ge=2)
    temperature: Annotated[float, WhenActing()] = Field(0.95, ge=0)
    clip: Annotated[float | None, WhenActing()] = Field(None, gt=0)
    noise_samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Head:
        if self.sampling_steps > self.training_steps:
            raise ValueError(f"sampling_steps {self.sampling_steps} exceed training_steps {self.training_steps}")
        return self


class ActionHead(Head):
    """The action head: the same, with clean estimates cut to the range of normalised actions."""

    clip: Annotated[float | None, WhenActing()] = Field(1.0, gt=0)


class StateHead(Options):
    """A head that predicts the robot's state at every step up to the last future frame (``diffproploss``).

    Its loss joins those of all modes. Nothing reads the prediction: the official code never samples it either.

    Args:
        dimensions: Dimensions of the state that are predicted, counted from 0; None: all, as the official code does for
            tool hang. For UMI it predicts the last 6 of 16, the rotation with respect to the start.
        aggregation: As of `uva-action`.
        head: The diffusion head.
    """

    dimensions: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(None, min_length=1)
    aggregation: Aggregation = "conv_fc"
    head: ActionHead = ActionHead()


class UvaActionOptions(Options):
    """Options of `uva-action`.

    Args:
        horizon: H, actions of a chunk.
        aggregation: How features become H latents. ``conv_fc``, the default of all official configurations: a
            convolution and pooling to 4 x 4 in every frame, linear layers, and a linear map over frames; needs a
            grid. ``conv_ori``: a transposed convolution over frames, then the mean over the grid; H must be a
            multiple of the frames. ``conv2`` and ``fc2``: two convolutions or linear maps over all tokens.
        head: The diffusion head.
        level_per: Whether every action has a noise level of its own in training, as in the official code, or all
            actions of a chunk share one, which features that change with the level need.
    """

    horizon: int = Field(16, ge=1)
    aggregation: Aggregation = "conv_fc"
    head: ActionHead = ActionHead()
    level_per: Literal["action", "chunk"] = "action"
