"""The smallest part of every kind of model: for tests of the core, and as a first thing to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from videopolicy.components.fields import AnyBackbone
from videopolicy.components.hookspecs import hookimpl
from videopolicy.components.kinds import (
    BackboneComponent,
    Component,
    DecoderComponent,
    ExtractorComponent,
    PolicyComponent,
)
from videopolicy.spaces import Spaces
from videopolicy.types import FeatureLayout, Window

if TYPE_CHECKING:
    from videopolicy.contracts.backbone import VideoBackbone
    from videopolicy.contracts.decoder import ActionDecoder
    from videopolicy.contracts.extractor import FeatureExtractor
    from videopolicy.contracts.policy import Policy


class ToyBackbone(BackboneComponent):
    """One convolution over a clip of the current frame and two later ones.

    Args:
        width: Channels of its only tap.
        size: Height and width of the latents, which are small pictures.
        stride: Environment steps between frames.
    """

    type: Literal["toy"] = "toy"
    width: int = 8
    size: int = 4
    stride: int = 2

    def window(self) -> Window:
        return Window(observed=(0,), future=(self.stride, 2 * self.stride))

    def taps(self) -> dict[str, FeatureLayout]:
        return {"hidden": FeatureLayout(self.width, (("frames", 3), ("height", self.size), ("width", self.size)))}

    def build(self, spaces: Spaces) -> VideoBackbone:
        from videopolicy.testing.toy_models import ToyVideoModel

        return ToyVideoModel(self.window(), self.taps(), self.size, len(spaces.cameras))


class ToyExtractor(ExtractorComponent):
    """Coarse pictures as tokens, one per cell and view.

    Args:
        width: D.
        cells: Cells along height and width.
    """

    type: Literal["toy"] = "toy"
    width: int = 16
    cells: int = 4

    def window(self) -> Window:
        return Window()

    def layout(self, spaces: Spaces) -> FeatureLayout:
        axes = (("views", len(spaces.cameras)), ("height", self.cells), ("width", self.cells))
        return FeatureLayout(self.width, axes)

    def build(self, spaces: Spaces) -> FeatureExtractor:
        from videopolicy.testing.toy_models import ToyPictures

        return ToyPictures(self.layout(spaces), self.cells)


class ToyTaps(ExtractorComponent):
    """A video model, frozen: the means of its feature maps in one forward at its noisiest level, a token for each view.

    Args:
        backbone: The video model.
        taps: Its feature maps; none: all of them.
    """

    type: Literal["toy-taps"] = "toy-taps"
    backbone: AnyBackbone
    taps: tuple[str, ...] = ()

    def window(self) -> Window:
        return Window(self.backbone.window().observed)

    def layout(self, spaces: Spaces) -> FeatureLayout:
        layouts = self.backbone.chosen_taps(self.taps or tuple(self.backbone.taps()))
        return FeatureLayout(sum(layout.dim for layout in layouts), (("views", len(spaces.cameras)),))

    def check(self, spaces: Spaces) -> list[str]:
        return self.backbone.check(spaces)

    def build(self, spaces: Spaces) -> FeatureExtractor:
        from videopolicy.testing.toy_models import ToyVideoFeatures

        names = self.taps or tuple(self.backbone.taps())
        return ToyVideoFeatures(self.backbone.build(spaces), self.window(), self.layout(spaces), names)


class ToyDecoder(DecoderComponent):
    """Diffusion over actions with one hidden layer on the pooled tokens.

    Args:
        width: Of the hidden layer.
        steps: Denoising steps.
    """

    type: Literal["toy"] = "toy"
    horizon: int = 4
    width: int = 32
    steps: int = 3

    def build(self, layout: FeatureLayout, spaces: Spaces) -> ActionDecoder:
        from videopolicy.testing.toy_models import ToyActions

        return ToyActions(layout, spaces.actions.dim, self.horizon, self.width, self.steps)


class ToyPolicy(PolicyComponent):
    """A linear map from the mean colours of the pictures to actions, with a little noise of its own.

    Args:
        horizon: H.
    """

    type: Literal["toy"] = "toy"
    horizon: int = 4

    def window(self) -> Window:
        return Window(horizon=self.horizon)

    def build(self, spaces: Spaces) -> Policy:
        from videopolicy.testing.toy_models import ToyReflex

        return ToyReflex(self.window(), len(spaces.cameras), spaces.actions.dim)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [ToyBackbone, ToyExtractor, ToyTaps, ToyDecoder, ToyPolicy]
