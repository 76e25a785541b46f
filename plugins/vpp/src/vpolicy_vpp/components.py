"""The components `one-step` and `dit-diffusion` and their options.

Defaults are the official code's (github.com/roboterax/video-prediction-policy, commit 75cf37ad); where the
paper (Hu et al. 2024, arXiv 2412.14803) says something else, the docstrings say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import (
    AnyBackbone,
    AnyText,
    ClipText,
    Component,
    DecoderComponent,
    ExtractorComponent,
    FeatureLayout,
    Spaces,
    WhenActing,
    Window,
    hookimpl,
)
from videopolicy.parts.requirements import missing_state
from vpolicy_vpp.options import Dropout, Linear, SamplingLevels, TrainingLevels, VideoFormer, VideoFormer2D

if TYPE_CHECKING:
    from vpolicy_vpp.decoder import DiffusionDecoder
    from vpolicy_vpp.extractor import OneStepExtractor


class OneStep(ExtractorComponent):
    """One forward of the video model at its noisiest level; inner feature maps are the features.

    Section 4.2; ``policy_models/module/diffusion_extract.py``. The paper's "diffusion time-step 20" counts
    the steps of the schedule and changes nothing here: the first level is the same for any number of steps.

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
        noise: The latent noise is drawn anew on every call, or zero for deterministic features.
        frames: Which frames of the clip are read; None for all.
        pool: Average the feature maps down to this height and width before they are cached; None keeps them.
    """

    type: Literal["one-step"] = "one-step"
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
    def _fits(self) -> OneStep:
        self.backbone.chosen_taps(self.taps)  # refuses unknown ones
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

    def check(self, spaces: Spaces) -> list[str]:
        return self.backbone.check(spaces)

    def build(self, spaces: Spaces) -> OneStepExtractor:
        from vpolicy_vpp.extractor import OneStepExtractor

        return OneStepExtractor(self, spaces)


class DitDiffusion(DecoderComponent):
    """The diffusion transformer that turns video features into actions (section 4.2).

    Encoder over goal, features and optional state; decoder over noisy actions with adaptive layer norm by
    the level; EDM preconditioning and loss (``policy_models/edm_diffusion/score_wrappers.py``,
    ``module/diffusion_decoder.py``, ``transformers/transformer_blocks.py``).

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

    type: Literal["dit-diffusion"] = "dit-diffusion"
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
    def _fits(self) -> DitDiffusion:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads {self.heads}")
        if not self.causal_self_attention and not self.action_positions and self.horizon > 1:
            raise ValueError(
                "without causal_self_attention nothing distinguishes the actions of a chunk; set action_positions: true"
            )
        return self

    def check(self, layout: FeatureLayout, spaces: Spaces) -> list[str]:
        return missing_state(self.type, self.proprioception, spaces)

    def build(self, layout: FeatureLayout, spaces: Spaces) -> DiffusionDecoder:
        from vpolicy_vpp.decoder import DiffusionDecoder

        return DiffusionDecoder(self, layout, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [OneStep, DitDiffusion]
