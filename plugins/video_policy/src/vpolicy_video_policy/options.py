"""Groups of options: the CNN adapter, and noise levels of actions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from videopolicy.parts.options import Options

Layer = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
"""Channels of a layer and the groups that normalise its narrow middle."""


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
