"""The components `one-step`, `resampled` and `dit-diffusion`, and the importer `vpp`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from videopolicy import Component, DecoderComponent, ExtractorComponent, FeatureLayout, Spaces, hookimpl
from videopolicy.parts.requirements import missing_state
from vpolicy_vpp.importing import VppImporter
from vpolicy_vpp.options import DitDiffusionOptions, OneStepOptions, ResampledOptions

if TYPE_CHECKING:
    from vpolicy_vpp.decoder import DiffusionDecoder
    from vpolicy_vpp.extractor import OneStepExtractor
    from vpolicy_vpp.resampled import ResampledExtractor


class OneStep(OneStepOptions, ExtractorComponent):
    """One forward of the video model at its noisiest level; inner feature maps are the features.

    Section 4.2; ``policy_models/module/diffusion_extract.py``. The paper's "diffusion time-step 20" counts
    the steps of the schedule and changes nothing here: the first level is the same for any number of steps.

    Options: `vpolicy_vpp.options.OneStepOptions`.
    """

    type: Literal["one-step"] = "one-step"

    def check(self, spaces: Spaces) -> list[str]:
        return self.backbone.check(spaces)

    def build(self, spaces: Spaces) -> OneStepExtractor:
        from vpolicy_vpp.extractor import OneStepExtractor

        return OneStepExtractor(self, spaces)


class Resampled(ResampledOptions, ExtractorComponent):
    """Anybody's features, condensed by VPP's formers: for its decoder under another encoder (Table 3).

    Options: `vpolicy_vpp.options.ResampledOptions`.
    """

    type: Literal["resampled"] = "resampled"

    def check(self, spaces: Spaces) -> list[str]:
        if found := self.extractor.check(spaces):
            return found
        layout = self.extractor.layout(spaces)
        if layout.has("frames") and layout.axes[0][0] != "frames":
            return [f"resampled reads frame by frame, and the features of {self.extractor.type} are {layout}"]
        return []

    def build(self, spaces: Spaces) -> ResampledExtractor:
        from vpolicy_vpp.resampled import ResampledExtractor

        return ResampledExtractor(self, spaces)


class DitDiffusion(DitDiffusionOptions, DecoderComponent):
    """The diffusion transformer that turns video features into actions (section 4.2).

    Encoder over goal, features and optional state; decoder over noisy actions with adaptive layer norm by
    the level; EDM preconditioning and loss (``policy_models/edm_diffusion/score_wrappers.py``,
    ``module/diffusion_decoder.py``, ``transformers/transformer_blocks.py``).

    Options: `vpolicy_vpp.options.DitDiffusionOptions`.
    """

    type: Literal["dit-diffusion"] = "dit-diffusion"

    def check(self, layout: FeatureLayout, spaces: Spaces) -> list[str]:
        return missing_state(self.type, self.proprioception, spaces)

    def build(self, layout: FeatureLayout, spaces: Spaces) -> DiffusionDecoder:
        from vpolicy_vpp.decoder import DiffusionDecoder

        return DiffusionDecoder(self, layout, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [OneStep, Resampled, DitDiffusion, VppImporter]
