"""The components `unipi` and `inverse-dynamics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from videopolicy import Component, LearnerComponent, PolicyComponent, Spaces, hookimpl
from vpolicy_unipi.options import InverseDynamicsOptions, UnipiOptions

if TYPE_CHECKING:
    from vpolicy_unipi.inverse import InverseModel
    from vpolicy_unipi.policy import UnipiPolicy


class InverseDynamics(InverseDynamicsOptions, LearnerComponent):
    """The actions between two frames, read out of them by a ResNet (Du et al. 2023; Li et al. 2025, section V-C).

    It learns from recorded frames and actions, never from generated frames.

    See `InverseDynamicsOptions` for the options.
    """

    type: Literal["inverse-dynamics"] = "inverse-dynamics"

    def picture_size(self) -> tuple[int, int]:
        return self.image_size

    def fetch(self) -> None:
        self.folder()

    def build(self, spaces: Spaces) -> InverseModel:
        from vpolicy_unipi.inverse import InverseModel

        return InverseModel(self, spaces)


class Unipi(UnipiOptions, PolicyComponent):
    """UniPi (Du et al. 2023, arXiv 2302.00111): the policy is a video.

    The video model predicts the frames to come from the present one and the sentence; inverse dynamics reads the
    actions out of every pair of consecutive frames. As many of these are executed as ``eval.execute`` says before a new
    video is predicted; Li et al. 2025 execute 8 of 16.

    See `UnipiOptions` for the options.
    """

    type: Literal["unipi"] = "unipi"

    def check(self, spaces: Spaces) -> list[str]:
        found = [*self.video.check(spaces), *self.inverse.check(spaces)]
        future, pair = self.video.window().future, self.inverse.window()
        if not future:
            return [*found, f"the video model '{self.video.type}' predicts no frame to come"]
        if self.video.window().horizon:
            found.append(f"the video model '{self.video.type}' is conditioned on actions, of which acting knows none")
        gaps = {after - before for before, after in zip((0, *future), future, strict=False)}
        if len(gaps) > 1:
            found.append(
                f"the frames of '{self.video.type}' stand at {(0, *future)}, and inverse dynamics of pairs needs equal "
                "distances"
            )
        elif (pair.future, pair.horizon) != (future[:1], future[0]):
            found.append(
                f"the frames of '{self.video.type}' are {future[0]} steps apart, and the pairs of "
                f"'{self.inverse.type}' are {pair.future[0] if pair.future else 0} steps apart, with {pair.horizon} "
                f"actions between them: set its `gap` to {future[0]}"
            )
        return found

    def build(self, spaces: Spaces) -> UnipiPolicy:
        from vpolicy_unipi.policy import UnipiPolicy

        return UnipiPolicy(self, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Unipi, InverseDynamics]
