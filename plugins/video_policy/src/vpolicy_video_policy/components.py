"""The components `every-step` and `action-unet`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from videopolicy import DecoderComponent, ExtractorComponent, FeatureLayout, Spaces
from videopolicy.parts.requirements import missing_state
from vpolicy_video_policy.options import ActionUNetOptions, EveryStepOptions

if TYPE_CHECKING:
    from vpolicy_video_policy.decoder import ActionUNetDecoder
    from vpolicy_video_policy.extractor import EveryStepExtractor


class EveryStep(EveryStepOptions, ExtractorComponent):
    """Features of the video model at every noise level through which video and actions are denoised together.

    Sections 3.2 and 3.3. In training the clip is noised at the level of the actions and one forward gives the
    video loss and the features; in use the clip is denoised in lock-step with the actions, and nothing is
    decoded into images.

    Options: `vpolicy_video_policy.options.EveryStepOptions`.
    """

    type: Literal["every-step"] = "every-step"

    def check(self, spaces: Spaces) -> list[str]:
        return self.backbone.check(spaces)

    def build(self, spaces: Spaces) -> EveryStepExtractor:
        from vpolicy_video_policy.extractor import EveryStepExtractor

        return EveryStepExtractor(self, spaces)


class ActionUNet(ActionUNetOptions, DecoderComponent):
    """Diffusion Policy's one-dimensional U-Net over action chunks, conditioned on the features as one vector
    (section 3.2).

    ``pose_model.py``, ``ConditionalUnet1D``. The features of all tokens, flattened, modulate every residual block by
    scale and bias, together with the video model's own embedding of the level; where features have none, a sinusoid
    of the level and two linear layers stand in for it, as in Diffusion Policy. v-prediction with unit data deviation,
    as in the video model.

    Options: `vpolicy_video_policy.options.ActionUNetOptions`.
    """

    type: Literal["action-unet"] = "action-unet"

    def check(self, layout: FeatureLayout, spaces: Spaces) -> list[str]:
        return missing_state(self.type, self.proprioception, spaces)

    def build(self, layout: FeatureLayout, spaces: Spaces) -> ActionUNetDecoder:
        from vpolicy_video_policy.decoder import ActionUNetDecoder

        return ActionUNetDecoder(self, layout, spaces)
