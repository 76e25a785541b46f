"""Groups of options: what condenses features, noise levels of actions, and dropout."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from videopolicy.parts.options import Options


class VideoFormer(Options):
    """Learned latents of every frame read that frame's tokens and attend over time (section 4.2).

    Args:
        dim: D. The paper's table says 512, which in the code is the inner width of the attention.
        depth: Layers.
        heads, dim_head: Of the attention on the frame; the attention over time splits D by ``heads``.
        latents_per_frame: Tokens that come out per frame (14 of 16 frames: 224).
        ff_mult: Hidden width of the feed-forward layers, in multiples of D.
        time_position_scale: Standard deviation with which the positions of the frames begin. The official 1
            drowns features of small scale: trained briefly from scratch, the tokens then ignore the images.
        input_norm: Normalise the features first: ``layer`` over the channels of every token, ``batch`` every channel
            over the training windows (without learned scale). The official code does not; features of a video
            model trained from scratch have no known scale, and most of what a token holds is the same in every
            image, which only ``batch`` takes away.
    """

    type: Literal["video-former"] = "video-former"
    dim: int = Field(384, ge=1)
    depth: int = Field(6, ge=1)
    heads: int = Field(8, ge=1)
    dim_head: int = Field(64, ge=1)
    latents_per_frame: int = Field(14, ge=1)
    ff_mult: int = Field(4, ge=1)
    time_position_scale: float = Field(1.0, ge=0)
    input_norm: Literal["none", "layer", "batch"] = "none"

    @model_validator(mode="after")
    def _fits(self) -> VideoFormer:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        return self


class VideoFormer2D(VideoFormer):
    """The same without attention over time (the paper's ablation "w/o temporal attention", 4.18 on CALVIN)."""

    type: Literal["video-former-2d"] = "video-former-2d"  # type: ignore[assignment]


class Linear(Options):
    """One linear layer on every token (the ablation without Video Former, 3.86 on CALVIN)."""

    type: Literal["linear"] = "linear"
    dim: int = Field(384, ge=1)


class TrainingLevels(Options):
    """Truncated log-logistic density of the training levels.

    Args:
        median, scale: Of the log-logistic; its logarithm's location is the median's.
        lowest, highest: Where it is cut.
    """

    median: float = Field(0.5, gt=0)
    scale: float = Field(0.5, gt=0)
    lowest: float = Field(0.001, gt=0)
    highest: float = Field(80.0, gt=0)


class SamplingLevels(Options):
    """Levels that sampling descends along.

    Args:
        schedule: Spacing.
        steps: Denoising steps.
        lowest, highest: Range; a last step goes from the lowest to 0. The official CALVIN evaluation raises
            ``lowest`` to 1.
        rho: Of the ``karras`` spacing.
    """

    schedule: Literal["exponential", "karras"] = "exponential"
    steps: int = Field(10, ge=1)
    lowest: float = Field(0.001, gt=0)
    highest: float = Field(80.0, gt=0)
    rho: float = Field(7.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> SamplingLevels:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} must be below highest {self.highest}")
        return self


class Dropout(Options):
    """Dropout probabilities: after the embeddings, on attention weights, after attention, after the feed-forward."""

    embedding: float = Field(0.0, ge=0, lt=1)
    attention: float = Field(0.3, ge=0, lt=1)
    residual: float = Field(0.1, ge=0, lt=1)
    feed_forward: float = Field(0.05, ge=0, lt=1)
