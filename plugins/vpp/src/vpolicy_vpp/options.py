"""Options of `one-step`, `resampled` and `dit-diffusion`, and groups: what condenses features, levels, dropout.

Defaults are the official code's (github.com/roboterax/video-prediction-policy, commit 75cf37ad); where the
paper (Hu et al. 2024, arXiv 2412.14803) says something else, the docstrings say so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import AnyBackbone, AnyExtractor, AnyText, ClipText, FeatureLayout, Spaces, WhenActing, Window
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
    """One linear layer on every token (the ablation without Video Former, 3.86 on CALVIN).

    Args:
        dim: D.
    """

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
    """Dropout probabilities.

    Args:
        embedding: After the embeddings.
        attention: On the attention weights.
        residual: After the attention.
        feed_forward: After the feed-forward layers.
    """

    embedding: float = Field(0.0, ge=0, lt=1)
    attention: float = Field(0.3, ge=0, lt=1)
    residual: float = Field(0.1, ge=0, lt=1)
    feed_forward: float = Field(0.05, ge=0, lt=1)


class OneStepOptions(Options):
    """Options of `one-step`.

    Args:
        backbone: The video model.
        taps: Feature maps, resized to the grid of the last one and concatenated on the channels in this
            order. On CALVIN the code reads two; the paper's 1280 input channels fit one.
        resize: The code's interpolation is nearest; the paper says linear.
        former: What condenses the features.
        frozen: Whether the video model and its text encoder stay as they are, in eval mode.
        denoising_steps: Forwards of the video model, with Euler steps between; the last one is read
            (the paper's ablation with 2: 4.19 instead of 4.33 on CALVIN).
        schedule_steps, lowest_level: The Karras schedule that further steps follow.
        noise: The latent noise is drawn again on every call, or zero for deterministic features.
        frames: Which frames of the clip are read; None for all.
        pool: Average the feature maps down to this height and width before they are cached; None keeps them.
    """

    backbone: AnyBackbone
    taps: tuple[str, ...] = Field(("up0", "up1"), min_length=1)
    resize: Literal["nearest", "linear"] = "nearest"
    former: Annotated[VideoFormer | VideoFormer2D | Linear, Field(discriminator="type")] = VideoFormer()
    frozen: bool = True
    denoising_steps: int = Field(1, ge=1)
    schedule_steps: int = Field(20, ge=2)
    lowest_level: float = Field(0.002, gt=0)
    noise: Literal["random", "zero"] = "random"
    frames: tuple[int, ...] | None = Field(None, min_length=1)
    pool: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _fits(self) -> OneStepOptions:
        self.backbone.chosen_taps(self.taps)  # rejects unknown ones
        count, (height, width) = self._frames_and_grid()
        if self.frames is not None and not all(0 <= frame < count for frame in self.frames):
            raise ValueError(f"frames {list(self.frames)} must be among the clip's 0 to {count - 1}")
        if self.pool is not None and not (1 <= self.pool[0] <= height and 1 <= self.pool[1] <= width):
            raise ValueError(f"pool {list(self.pool)} must not exceed the grid {height} x {width} of '{self.taps[-1]}'")
        if self.denoising_steps > self.schedule_steps:
            raise ValueError(f"denoising_steps {self.denoising_steps} exceed schedule_steps {self.schedule_steps}")
        return self

    def _frames_and_grid(self) -> tuple[int, tuple[int, int]]:
        axes = dict(self.backbone.taps()[self.taps[-1]].axes)
        return axes["frames"], (axes["height"], axes["width"])

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the features before the former."""
        return self.pool or self._frames_and_grid()[1]

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Frames of the clip that are read."""
        return self.frames or tuple(range(self._frames_and_grid()[0]))

    @property
    def channels(self) -> int:
        """Width of the features before the former."""
        return sum(tap.dim for tap in self.backbone.chosen_taps(self.taps))

    def window(self) -> Window:
        return Window()

    def layout(self, spaces: Spaces) -> FeatureLayout:
        frames = len(self.frame_indices)
        if isinstance(self.former, VideoFormer):
            return FeatureLayout(self.former.dim, (("frames", frames), ("latents", self.former.latents_per_frame)))
        height, width = self.grid
        views = len(spaces.cameras)
        axes = (("frames", frames), ("views", views), ("height", height), ("width", width))
        return FeatureLayout(self.former.dim, axes)


class ResampledOptions(Options):
    """Options of `resampled`.

    Args:
        extractor: Whose features are condensed: frame by frame where they have frames, else all tokens as one frame's.
        former: What condenses them. VPP's former of one frame is the Perceiver resampler (Jaegle et al. 2021; Alayrac
            et al. 2022): learned latents that read all tokens and each other. The paper has 256 of them.
        position_bands: Frequencies for the place of every token, which is appended to it (Jaegle et al. 2021, section
            3.2); 0: none, as where VPP condenses a video model's features, which know where they are. So do the tokens
            of a vision transformer; latents of an autoencoder do not, and a Perceiver does not see their order.
    """

    extractor: AnyExtractor
    former: Annotated[VideoFormer | VideoFormer2D | Linear, Field(discriminator="type")] = VideoFormer2D(
        latents_per_frame=256
    )
    position_bands: int = Field(0, ge=0)

    def window(self) -> Window:
        return self.extractor.window()

    def layout(self, spaces: Spaces) -> FeatureLayout:
        inner = self.extractor.layout(spaces)
        if not isinstance(self.former, VideoFormer):
            return replace(inner, dim=self.former.dim)
        axes = (("frames", frames_and_places(inner)[0]), ("latents", self.former.latents_per_frame))
        return FeatureLayout(self.former.dim, axes, inner.step_embedding)


def frames_and_places(layout: FeatureLayout) -> tuple[int, tuple[int, ...]]:
    """Number of frames, and sizes of the other axes, of features whose frames stand in front."""
    sizes = tuple(size for _, size in layout.axes)
    return (sizes[0], sizes[1:] or (1,)) if layout.has("frames") else (1, sizes or (1,))


class DitDiffusionOptions(Options):
    """Options of `dit-diffusion`.

    Args:
        horizon: H, actions of a chunk.
        text: What reads the instruction; its pooled vector is the goal token.
        width, encoder_layers, decoder_layers, heads, mlp_mult: Shape of the transformer.
        dropout: Probabilities.
        proprioception: Give the robot's state as a further token (CALVIN's policy has none).
        causal_self_attention: Actions attend only to earlier ones, as in the official code.
        causal_cross_attention: The official code builds the cross-attention causal as well: action i sees only
            the first i + 1 context tokens. The paper describes a full one, which ``false`` gives.
        action_positions: Learn positions of the actions. The official code has none and distinguishes actions
            by causality alone, so something without causality needs them.
        adaptive_norm: ``vpp`` shifts and scales without the usual 1 + and starts from small random weights;
            ``adaln-zero`` is DiT's (Peebles and Xie 2023), every block starting as the identity and the
            output as 0.
        initial_deviation: Standard deviation of the linear weights at the start, 0.02 in the official code; None
            is torch's own, which grows as the width falls. At a width of 128 the official value costs a short
            training most of its progress (loss 0.59 instead of 0.34 after 400 steps of the quickstart).
        sigma_data: Standard deviation of the actions that the preconditioning assumes.
        training_levels, sampling_levels: Noise levels.
        noise_samples: Levels and noises drawn per sample and step of training. The official code draws one;
            more share one reading of the features, which is what costs.
    """

    horizon: int = Field(10, ge=1)
    text: AnyText = ClipText(max_length=77)
    width: int = Field(384, ge=4)
    encoder_layers: int = Field(4, ge=0)
    decoder_layers: int = Field(4, ge=1)
    heads: int = Field(8, ge=1)
    mlp_mult: int = Field(4, ge=1)
    dropout: Dropout = Dropout()
    proprioception: bool = False
    causal_self_attention: bool = True
    causal_cross_attention: bool = True
    action_positions: bool = False
    adaptive_norm: Literal["vpp", "adaln-zero"] = "vpp"
    initial_deviation: float | None = Field(0.02, gt=0)
    sigma_data: float = Field(0.5, gt=0)
    training_levels: TrainingLevels = TrainingLevels()
    sampling_levels: Annotated[SamplingLevels, WhenActing()] = SamplingLevels()
    noise_samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> DitDiffusionOptions:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads {self.heads}")
        if not self.causal_self_attention and not self.action_positions and self.horizon > 1:
            raise ValueError(
                "without causal_self_attention nothing distinguishes the actions of a chunk; set action_positions: true"
            )
        return self
