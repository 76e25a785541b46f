"""Options of `every-step` and `action-unet`, and groups of options: the CNN adapter, and noise levels of actions.

Defaults are the official code's (github.com/cvlab-columbia/videopolicy, commit af0d577); where the paper
(Liang et al. 2025, arXiv 2508.00795) says something else, the docstrings say so.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from videopolicy import AnyBackbone, FeatureLayout, Spaces, WhenActing, Window
from videopolicy.parts.options import Options

Layer = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
"""Channels of a layer and the groups that normalise its narrow middle."""

PAPER_TAPS = ("up3.1", "up2.1", "up1.1", "up0.1", "down2.downsample")
"""The paper's "decoder layers" 23, 20, 17, 14 and 9, fine to coarse. The last is a layer of the encoder."""


class Adapter(Options):
    """The CNN adapter: a branch of bottlenecks for every view, then one for all views and time.

    ``sgm/modules/diffusionmodules/pose_model.py``, ``VideoResNet``. Layers are written ``[channels, groups]``;
    the groups normalise the middle of a bottleneck, which is ``expansion`` times narrower than the layer.

    Args:
        stages: The layer behind every tap, fine to coarse; it brings the branch to the grid of the next tap.
        merges: The layer that brings every tap but the first to its width before it joins the branch.
        squeeze: Layers that end a branch.
        trunk: Layers over the branches of all views, concatenated on the channels.
        deep_layers: Further layers of the trunk's last width.
        halvings: Layers behind these that halve the number of frames, rounded up: 8 frames become 1.
        blocks: Bottlenecks per layer.
        halving_blocks: Bottlenecks per layer that halves the frames.
        expansion: Of branches and trunk.
        deep_expansion, deep_groups: Of the deep and the halving layers.
        norm_groups: Of the normalisation at the end.
    """

    stages: tuple[Layer, ...] = Field(((320, 10), (640, 10), (1280, 10), (1280, 10), (1280, 10)), min_length=1)
    merges: tuple[Layer, ...] = ((320, 10), (640, 10), (640, 10), (640, 10))
    squeeze: tuple[Layer, ...] = ((864, 8), (576, 6))
    trunk: tuple[Layer, ...] = Field(((1280, 10), (960, 8), (720, 6), (540, 5), (420, 5)), min_length=1)
    deep_layers: int = Field(2, ge=0)
    halvings: int = Field(3, ge=0)
    blocks: int = Field(2, ge=1)
    halving_blocks: int = Field(4, ge=1)
    expansion: int = Field(4, ge=1)
    deep_expansion: int = Field(2, ge=1)
    deep_groups: int = Field(7, ge=1)
    norm_groups: int = Field(14, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Adapter:
        if len(self.merges) != len(self.stages) - 1:
            raise ValueError(
                f"{len(self.stages)} stages need {len(self.stages) - 1} merges (one for every tap but the first), "
                f"not {len(self.merges)}"
            )
        layers = [(layer, self.expansion) for layer in (*self.stages, *self.merges, *self.squeeze, *self.trunk)]
        if self.deep_layers or self.halvings:
            layers.append(((self.dim, self.deep_groups), self.deep_expansion))
        for (width, groups), expansion in layers:
            if width % (expansion * groups):
                raise ValueError(
                    f"a layer of {width} channels must be a multiple of {expansion * groups}: "
                    f"{groups} groups in a middle that is {expansion} times narrower"
                )
        if self.dim % self.norm_groups:
            raise ValueError(
                f"the trunk's last {self.dim} channels are not a multiple of norm_groups {self.norm_groups}"
            )
        return self

    @property
    def dim(self) -> int:
        """Channels that come out."""
        return self.trunk[-1][0]

    def frames_left(self, frames: int) -> int:
        """Frames that come out."""
        for _ in range(self.halvings):
            frames = -(-frames // 2)
        return frames


class TrainingLevels(Options):
    """Log-normal density of the training levels: ``ln s ~ N(mean, deviation^2)``.

    The paper's equations 4 and 5 describe a discrete process; the code is this one.

    Args:
        mean, deviation: Of the level's natural logarithm.
    """

    mean: float = 1.0
    deviation: float = Field(1.6, gt=0)


class SamplingLevels(Options):
    """Levels that sampling descends along in Euler steps (Karras et al. 2022, equation 5).

    Args:
        steps: Denoising steps, each a forward of the features, and of the video model where they come from one.
        lowest, highest: Range; a last step goes from the lowest to 0.
        rho: Spacing.
    """

    steps: int = Field(30, ge=1)
    lowest: float = Field(0.002, gt=0)
    highest: float = Field(700.0, gt=0)
    rho: float = Field(7.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> SamplingLevels:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} must be below highest {self.highest}")
        return self


class EveryStepOptions(Options):
    """Options of `every-step`.

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
    def _fits(self) -> EveryStepOptions:
        self.backbone.chosen_taps(self.taps)  # rejects unknown ones
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


def stride_between(fine: tuple[int, int], coarse: tuple[int, int]) -> int:
    """The stride that leads from one grid to a coarser one, where there is any."""
    return -(-fine[0] // coarse[0])


class ActionUNetOptions(Options):
    """Options of `action-unet`.

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
    def _fits(self) -> ActionUNetOptions:
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
