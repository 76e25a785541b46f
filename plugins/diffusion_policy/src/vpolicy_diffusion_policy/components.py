"""The components `image`, `unet-diffusion` and `transformer-diffusion`: Diffusion Policy (Chi et al. 2023).

The options, and what their defaults follow, are in `vpolicy_diffusion_policy.options`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from videopolicy import Component, DecoderComponent, ExtractorComponent, FeatureLayout, Spaces, hookimpl
from videopolicy.parts.requirements import missing_state
from vpolicy_diffusion_policy.options import (
    Grid,
    ImageOptions,
    Timm,
    TransformerDiffusionOptions,
    UNetDiffusionOptions,
    text_dim,
)

if TYPE_CHECKING:
    from vpolicy_diffusion_policy.decoder import DiffusionDecoder
    from vpolicy_diffusion_policy.extractor import ImageExtractor


class Image(ImageOptions, ExtractorComponent):
    """Images through encoders that are trained with the policy, one encoder for every camera.

    Section III-D; ``diffusion_unet_hybrid_image_policy.py`` with robomimic's ``VisualCore``, and UMI's
    ``timm_obs_encoder.py``. Features do not depend on the noise level.

    See `ImageOptions` for the options.
    """

    type: Literal["image"] = "image"

    def fetch(self) -> None:
        if isinstance(self.encoder, Timm):
            self.encoder.folder()

    def check(self, spaces: Spaces) -> list[str]:
        found = missing_state(self.type, self.proprioception, spaces)
        for camera in spaces.cameras:
            size = self.resize or (camera.height, camera.width)
            if self.crop and any(cut > whole for cut, whole in zip(self.crop, size, strict=True)):
                found.append(f"image crops {list(self.crop)}, and camera '{camera.name}' has {list(size)} pixels")
        sizes = self.sizes(spaces)
        if isinstance(self.pool, Grid) and len({self.encoder.grid(size) for size in sizes}) > 1:
            found.append("image keeps grids, and the cameras have images of several sizes; set resize")
        return found

    def build(self, spaces: Spaces) -> ImageExtractor:
        from vpolicy_diffusion_policy.extractor import ImageExtractor

        return ImageExtractor(self, spaces)


class UNetDiffusion(UNetDiffusionOptions, DecoderComponent):
    """Diffusion Policy's one-dimensional U-Net over action chunks, the CNN variant (section III-A).

    ``conditional_unet1d.py``. All tokens, flattened, and the instruction's vector modulate every residual block by
    scale and bias, together with a sinusoid of the timestep.

    See `UNetDiffusionOptions` for the options.
    """

    type: Literal["unet-diffusion"] = "unet-diffusion"

    def build(self, layout: FeatureLayout, spaces: Spaces) -> DiffusionDecoder:
        from vpolicy_diffusion_policy.decoder import DiffusionDecoder
        from vpolicy_diffusion_policy.unet import ConditionalUNet

        network = ConditionalUNet(self, spaces.actions.dim, layout.tokens * layout.dim + text_dim(self.text))
        return DiffusionDecoder(self, network, spaces)


class TransformerDiffusion(TransformerDiffusionOptions, DecoderComponent):
    """Diffusion Policy's transformer over action chunks (section III-A).

    ``transformer_for_diffusion.py``. Timestep and tokens, each behind a small network, are the memory that the noisy
    actions attend to.

    See `TransformerDiffusionOptions` for the options.
    """

    type: Literal["transformer-diffusion"] = "transformer-diffusion"

    def build(self, layout: FeatureLayout, spaces: Spaces) -> DiffusionDecoder:
        from vpolicy_diffusion_policy.decoder import DiffusionDecoder
        from vpolicy_diffusion_policy.transformer import ConditionalTransformer

        token = layout.dim + text_dim(self.text)
        return DiffusionDecoder(self, ConditionalTransformer(self, spaces.actions.dim, token, layout.tokens), spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Image, UNetDiffusion, TransformerDiffusion]
