"""The components `every-step` and `action-unet` and their options.

Defaults are the official code's (github.com/cvlab-columbia/videopolicy, commit af0d577); where the paper
(Liang et al. 2025, arXiv 2508.00795) says something else, the docstrings say so.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import (
    AnyBackbone,
    DecoderComponent,
    ExtractorComponent,
    FeatureLayout,
    Spaces,
    WhenActing,
    Window,
)
from videopolicy.parts.requirements import missing_state
from vpolicy_video_policy.options import Adapter, SamplingLevels, TrainingLevels

if TYPE_CHECKING:
    from vpolicy_video_policy.decoder import ActionUNetDecoder
    from vpolicy_video_policy.extractor import EveryStepExtractor

PAPER_TAPS = ("up3.1", "up2.1", "up1.1", "up0.1", "down2.downsample")
"""The paper's "decoder layers" 23, 20, 17, 14 and 9, fine to coarse. The last is a layer of the encoder."""


class EveryStep(ExtractorComponent):
    """Features of the video model at every noise level through which video and actions are denoised together.

    Sections 3.2 and 3.3. In training the clip is noised at the level of the actions and one forward gives the
    video loss and the features; in use the clip is denoised in lock-step with the actions, and nothing is
    decoded into images.

    Args:
        backbone: The video model.
        taps: Feature maps, fine to coarse.
        adapter: What condenses the feature maps.
        frozen: Whether the video model stays as it is, in eval mode, and has no loss (the second of two stages).
        stop_gradient: Train the video model on its own loss, and keep the loss of the actions from it. The paper's
            stop-gradient is of its two stages (section 3.3), the second of which is ``frozen``; its Joint is trained
            end to end (section 4.4, Table 6), as in the official code.
        guidance: Scale of classifier-free guidance, for video and actions alike; 1 is none, and half the cost. The
            paper and the official evaluation have 2 for everything.
        guidance_start: Scale at the first frame of a clip and at the first action, from which it rises linearly to
            ``guidance`` at the last ones (``LinearPredictionGuider``, ``min_scale`` to ``max_scale``); None: it is
            ``guidance`` everywhere, as in the official evaluation. The official training files have 1 to 2.5, and never
            use it.
        video_weight: Of the video loss; None: the number of the clip's frames divided by that of its frames and
            actions, since the official mean runs over all of them with equal weights: 25/57 at 25 frames and 32
            actions.
        video_learning_rate: Of the video model, in multiples of the stage's. Officially 1e-5 where everything else has
            5e-5.
        lowest_level: The video is never denoised below this level (nor noised less in training): while the level of
            the actions goes on falling, the features stay, and no forward is run. 0 is the paper's every step; the
            highest sampling level is one step, as in Video Prediction Policy.
    """

    type: Literal["every-step"] = "every-step"
    backbone: AnyBackbone
    taps: tuple[str, ...] = Field(PAPER_TAPS, min_length=1)
    adapter: Adapter = Adapter()
    frozen: bool = False
    stop_gradient: bool = False
    guidance: Annotated[float, WhenActing()] = 2.0
    guidance_start: Annotated[float | None, WhenActing()] = None
    video_weight: float | None = Field(None, ge=0)
    video_learning_rate: float = Field(0.2, gt=0)
    lowest_level: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> EveryStep:
        self.backbone.chosen_taps(self.taps)  # refuses unknown ones
        if len(self.taps) != len(self.adapter.stages):
            raise ValueError(f"{len(self.taps)} taps need as many adapter.stages, not {len(self.adapter.stages)}")
        grids = [self._grid(tap) for tap in self.taps]
        for (tap, following), (fine, coarse) in zip(pairwise(self.taps), pairwise(grids), strict=True):
            stride = stride_between(fine, coarse)
            if tuple(-(-size // stride) for size in fine) != coarse:
                raise ValueError(
                    f"taps go from fine to coarse, and no stride leads from the {fine[0]} x {fine[1]} of '{tap}' "
                    f"to the {coarse[0]} x {coarse[1]} of '{following}'"
                )
        return self

    def _grid(self, tap: str) -> tuple[int, int]:
        axes = dict(self.backbone.taps()[tap].axes)
        return axes["height"], axes["width"]

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of every tap."""
        return tuple(tap.dim for tap in self.backbone.chosen_taps(self.taps))

    @property
    def strides(self) -> tuple[int, ...]:
        """Spatial stride of the stage behind every tap."""
        grids = [self._grid(tap) for tap in self.taps]
        return (*(stride_between(fine, coarse) for fine, coarse in pairwise(grids)), 1)

    @property
    def step_embedding(self) -> int:
        """Width of the video model's own embedding of the level, 0 where it has none."""
        return self.backbone.taps()[self.taps[0]].step_embedding

    def window(self) -> Window:
        return self.backbone.window()

    def layout(self, spaces: Spaces) -> FeatureLayout:
        frames = self.adapter.frames_left(dict(self.backbone.taps()[self.taps[0]].axes)["frames"])
        height, width = self._grid(self.taps[-1])
        axes = (("frames", frames), ("height", height), ("width", width))
        return FeatureLayout(self.adapter.dim, axes, self.step_embedding)

    def check(self, spaces: Spaces) -> list[str]:
        return self.backbone.check(spaces)

    def build(self, spaces: Spaces) -> EveryStepExtractor:
        from vpolicy_video_policy.extractor import EveryStepExtractor

        return EveryStepExtractor(self, spaces)


def stride_between(fine: tuple[int, int], coarse: tuple[int, int]) -> int:
    """The stride that leads from one grid to a coarser one, where there is any."""
    return -(-fine[0] // coarse[0])


class ActionUNet(DecoderComponent):
    """Diffusion Policy's one-dimensional U-Net over action chunks, conditioned on the features as one vector
    (section 3.2).

    ``pose_model.py``, ``ConditionalUnet1D``. The features of all tokens, flattened, modulate every residual block by
    scale and bias, together with the video model's own embedding of the level; where features have none, a sinusoid
    of the level and two linear layers stand in for it, as in Diffusion Policy. v-prediction with unit data deviation,
    as in the video model.

    Args:
        horizon: H, actions of a chunk; every level of the network but the last halves it.
        down_dims: Widths of the levels.
        kernel: Of the convolutions.
        groups: Of the normalisations.
        step_dim: Width of the embedding of the level.
        proprioception: Condition it on the robot's state as well (the official policy has none).
        training_levels, sampling_levels: Noise levels.
        noise_samples: Noises drawn per sample and step of training, all at the sample's level, so that its features are
            computed once. The official code draws one; a small network that reads a large one learns more from several.
        action_weight: Of the loss; None: the number of actions divided by that of actions and frames of the clip that
            is denoised with them, since the official mean runs over all of them with equal weights, and over both also
            where the video model is frozen: 32/57 at 25 frames and 32 actions. 1 where there is no such clip.
    """

    type: Literal["action-unet"] = "action-unet"
    horizon: int = Field(32, ge=1)
    down_dims: tuple[Annotated[int, Field(ge=1)], ...] = Field((256, 512, 1024), min_length=1)
    kernel: int = Field(5, ge=1)
    groups: int = Field(8, ge=1)
    step_dim: int = Field(256, ge=4)
    proprioception: bool = False
    training_levels: TrainingLevels = TrainingLevels()
    sampling_levels: Annotated[SamplingLevels, WhenActing()] = SamplingLevels()
    noise_samples: int = Field(1, ge=1)
    action_weight: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> ActionUNet:
        step = 2 ** (len(self.down_dims) - 1)
        if self.horizon % step:
            raise ValueError(
                f"horizon {self.horizon} must be a multiple of {step}: {len(self.down_dims)} down_dims halve it "
                f"{len(self.down_dims) - 1} times"
            )
        if any(width % self.groups for width in self.down_dims):
            raise ValueError(f"down_dims {list(self.down_dims)} must be multiples of groups {self.groups}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd, so that the chunk keeps its length")
        if self.step_dim % 2:
            raise ValueError(f"step_dim {self.step_dim} must be even: sines and cosines")
        return self

    def check(self, layout: FeatureLayout, spaces: Spaces) -> list[str]:
        return missing_state(self.type, self.proprioception, spaces)

    def build(self, layout: FeatureLayout, spaces: Spaces) -> ActionUNetDecoder:
        from vpolicy_video_policy.decoder import ActionUNetDecoder

        return ActionUNetDecoder(self, layout, spaces)
