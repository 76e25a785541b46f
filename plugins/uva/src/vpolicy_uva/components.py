"""The components `uva`, `uva-joint` and `uva-action`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from videopolicy import AnyDecoder, DecoderComponent, FeatureLayout, LearnerComponent, PolicyComponent, Spaces
from videopolicy.parts.requirements import missing_state, unknown_cameras
from videopolicy.parts.weights import pretrained_folder
from vpolicy_uva.joint_options import UvaJointOptions
from vpolicy_uva.options import KlLatent, UvaActionOptions
from vpolicy_uva.policy_options import UvaOptions
from vpolicy_uva.weight_files import AUTOENCODER, AUTOENCODER_FILES, initial_file

if TYPE_CHECKING:
    from vpolicy_uva.action import UvaActionDecoder
    from vpolicy_uva.joint import JointModel
    from vpolicy_uva.policy import UvaPolicy


class UvaJoint(UvaJointOptions, LearnerComponent):
    """Everything up to the joint latent Z, and the video heads (section III; ``mar_con_unified.py``).

    Trained on its own it is a video model: clips without actions are enough.

    Options: `vpolicy_uva.joint_options.UvaJointOptions`.
    """

    type: Literal["uva-joint"] = "uva-joint"

    def fetch(self) -> None:
        if isinstance(self.latent, KlLatent) and self.latent.weights is not None:
            pretrained_folder(self.latent.weights, AUTOENCODER, AUTOENCODER_FILES)
        if self.initial_weights is not None:
            initial_file(self.initial_weights)

    def picture_size(self) -> tuple[int, int]:
        return self.image_size

    def check(self, spaces: Spaces) -> list[str]:
        predicted = self.predict_proprioception
        found = missing_state(self.type, self.proprioception, spaces)
        found += missing_state(self.type, predicted is not None, spaces, "predict_proprioception: null")
        if predicted and spaces.state and max(predicted.dimensions or (0,)) >= spaces.state.dim:
            found.append(
                f"uva-joint predicts dimension {max(predicted.dimensions or ())} of the state, counted from 0, and the "
                f"state has {spaces.state.dim}"
            )
        known = [camera.name for camera in spaces.cameras]
        for verb, chosen in (("predicts", self.predicted_views), ("sees", self.seen_views)):
            found += unknown_cameras(f"{self.type} {verb} view", chosen or (), spaces)
        if self.seen_views is not None and known and known[0] not in self.seen_views:
            found.append(f"uva-joint always sees the first view: add {known[0]} to seen_views")
        if self.seen_views is not None and self.predicted_views is not None:
            idle = [name for name in known if name not in {*self.seen_views, *self.predicted_views}]
            if idle:
                found.append(f"uva-joint neither sees nor predicts view {', '.join(idle)}")
        return found

    def build(self, spaces: Spaces) -> JointModel:
        from vpolicy_uva.joint import JointModel

        return JointModel(self, spaces)


class UvaAction(UvaActionOptions, DecoderComponent):
    """UVA's action head: features condensed to one latent an action, and every action denoised by itself
    (section III-C; ``diffusion_action_loss.py``).

    Options: `vpolicy_uva.options.UvaActionOptions`.
    """

    type: Literal["uva-action"] = "uva-action"

    def check(self, layout: FeatureLayout, spaces: Spaces) -> list[str]:
        if self.aggregation in ("conv_fc", "conv_ori") and not layout.has("height", "width"):
            return [
                f"uva-action's aggregation {self.aggregation} needs a grid, and the features are {layout}; "
                "use fc2 or conv2"
            ]
        frames = dict(layout.axes).get("frames", 1)
        if self.aggregation == "conv_ori" and self.horizon % frames:
            return [f"uva-action's aggregation conv_ori spreads {frames} frames over {self.horizon} actions unevenly"]
        return []

    def build(self, layout: FeatureLayout, spaces: Spaces) -> UvaActionDecoder:
        from vpolicy_uva.action import UvaActionDecoder

        return UvaActionDecoder(self, layout, spaces)


class Uva(UvaOptions, PolicyComponent):
    """Unified Video Action model (Li et al. 2025): actions read out of a joint latent of video and actions.

    Options: `vpolicy_uva.policy_options.UvaOptions`.
    """

    type: Literal["uva"] = "uva"
    joint: UvaJoint = UvaJoint()
    action: AnyDecoder = UvaAction()

    def check(self, spaces: Spaces) -> list[str]:
        return self.joint.check(spaces) or self.action.check(self.joint.layout(spaces), spaces)

    def build(self, spaces: Spaces) -> UvaPolicy:
        from vpolicy_uva.policy import UvaPolicy

        joint, layout = self.joint.build(spaces), self.joint.layout(spaces)
        return UvaPolicy(self, joint, self.action.build(layout, spaces), layout)
