"""The policy made of an extractor and a decoder: the only composition that the core knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from videopolicy.components.fields import AnyDecoder, AnyExtractor
from videopolicy.components.kinds import PolicyComponent
from videopolicy.spaces import Spaces
from videopolicy.types import Window

if TYPE_CHECKING:
    from videopolicy.contracts.policy import Policy


class Modular(PolicyComponent):
    """Features from ``extractor``, actions from ``decoder``.

    Args:
        extractor: Turns observations into features.
        decoder: Turns features into chunks of actions.
    """

    type: Literal["modular"] = "modular"
    extractor: AnyExtractor
    decoder: AnyDecoder

    def window(self) -> Window:
        frames = self.extractor.window()
        return Window(frames.observed, frames.future, self.decoder.horizon)

    def check(self, spaces: Spaces) -> list[str]:
        found = self.extractor.check(spaces)
        # A layout can only be asked for when the extractor itself is in order.
        return found or self.decoder.check(self.extractor.layout(spaces), spaces)

    def build(self, spaces: Spaces) -> Policy:
        from videopolicy.components.modular_policy import ModularPolicy

        layout = self.extractor.layout(spaces)
        return ModularPolicy(self.extractor.build(spaces), self.decoder.build(layout, spaces), self.window())
