"""The components `image`, `unet-diffusion` and `transformer-diffusion` and their options.

Defaults are the official code's (github.com/real-stanford/diffusion_policy, commit 5ba07ac: its image policies with
robomimic's encoder), whose paper is Chi et al. 2023 (arXiv 2303.04137). What the later code for UMI has, which other
papers train as their baseline (github.com/real-stanford/universal_manipulation_interface, commit d095ba9), is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import (
    AnyText,
    Component,
    DecoderComponent,
    ExtractorComponent,
    FeatureLayout,
    Spaces,
    TextComponent,
    Window,
    hookimpl,
)
from videopolicy.parts.requirements import missing_state
from vpolicy_diffusion_policy.options import (
    Attention,
    Average,
    ClassToken,
    ColorJitter,
    Diffusion,
    Grid,
    ResNet,
    SpatialSoftmax,
    Timm,
)

if TYPE_CHECKING:
    from vpolicy_diffusion_policy.decoder import DiffusionDecoder
    from vpolicy_diffusion_policy.extractor import ImageExtractor

Positive = Annotated[int, Field(ge=1)]
Size = tuple[Positive, Positive]
"""Height and width in pixels."""


class Image(ExtractorComponent):
    """Images through encoders that are trained with the policy, one encoder for every camera.

    Section III-D; ``diffusion_unet_hybrid_image_policy.py`` with robomimic's ``VisualCore``, and UMI's
    ``timm_obs_encoder.py``. Features do not depend on the noise level.

    Args:
        encoder: The network, built once for every camera.
        pool: What makes one vector of an image's feature map, or keeps the map.
        views: ``joined``: the features of all cameras stand side by side in one token, so that a frame is one vector
            (the official code); ``apart``: every camera has tokens of its own.
        observed: Offsets of the frames that are seen, in steps; the last one is 0. Officially two.
        proprioception: Append the robot's state at every frame to that frame's tokens.
        text: Append the vector of what reads the instruction to every token, for decoders that do not read it
            themselves; None: nothing does.
        resize: Height and width that images are resized to first; None: as they come.
        crop: Height and width that are cut out of that, at random in training, for every image anew, and in the middle
            otherwise. None: the whole image. Officially 76 of 84 pixels, 84 of 96 on PushT.
        restore: Resize what was cut out to the size before, as UMI does.
        color_jitter: Change of colours in training; None: none. UMI has it, also when acting, which is left out here.
        scaling: Pixels to [-1, 1] (``symmetric``), or by mean and deviation of ImageNet (``imagenet``), which UMI does
            for all encoders.
        learning_rate: Of the encoders, in multiples of the stage's. UMI has 0.1 where they are pretrained.
    """

    type: Literal["image"] = "image"
    encoder: Annotated[ResNet | Timm, Field(discriminator="type")] = ResNet()
    pool: Annotated[SpatialSoftmax | Attention | Average | ClassToken | Grid, Field(discriminator="type")] = (
        SpatialSoftmax()
    )
    views: Literal["joined", "apart"] = "joined"
    observed: tuple[int, ...] = (-1, 0)
    proprioception: bool = True
    text: AnyText | None = None
    resize: Size | None = None
    crop: Size | None = None
    restore: bool = False
    color_jitter: ColorJitter | None = None
    scaling: Literal["symmetric", "imagenet"] = "symmetric"
    learning_rate: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Image:
        Window(self.observed)  # refuses offsets that do not ascend to 0
        if isinstance(self.pool, ClassToken) and not isinstance(self.encoder, Timm):
            raise ValueError(f"encoder '{self.encoder.type}' has no class token; use another pool")
        if self.restore and self.crop is None:
            raise ValueError("restore brings back the size before the crop, and there is no crop")
        if self.crop and self.resize and any(cut > size for cut, size in zip(self.crop, self.resize, strict=True)):
            raise ValueError(f"crop {list(self.crop)} exceeds the images of {list(self.resize)} pixels")
        return self

    @property
    def vector(self) -> int:
        """Width of what one image gives, of every token where it gives several."""
        return self.pool.dim if isinstance(self.pool, SpatialSoftmax | Grid) else self.encoder.dim

    def sizes(self, spaces: Spaces) -> list[Size]:
        """What the encoder of every camera sees."""
        seen = [self.resize or (camera.height, camera.width) for camera in spaces.cameras]
        return seen if self.crop is None or self.restore else [self.crop] * len(seen)

    def fetch(self) -> None:
        if isinstance(self.encoder, Timm):
            self.encoder.folder()

    def window(self) -> Window:
        return Window(self.observed)

    def layout(self, spaces: Spaces) -> FeatureLayout:
        axes, dim = [("frames", len(self.observed))], self.vector
        if self.views == "apart":
            axes.append(("views", len(spaces.cameras)))
        else:
            dim *= len(spaces.cameras)
        if isinstance(self.pool, Grid):
            height, width = self.encoder.grid(self.sizes(spaces)[0])
            axes += [("height", height), ("width", width)]
        state = spaces.state.dim if self.proprioception and spaces.state else 0
        return FeatureLayout(dim + state + text_dim(self.text), tuple(axes))

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


class UNetDiffusion(DecoderComponent):
    """Diffusion Policy's one-dimensional U-Net over action chunks, the CNN variant (section III-A).

    ``conditional_unet1d.py``. All tokens, flattened, and the instruction's vector modulate every residual block by
    scale and bias, together with a sinusoid of the timestep.

    Args:
        horizon: H, actions of a chunk; every level of the network but the last halves it.
        text: What reads the instruction, whose pooled vector joins the flattened tokens (Liang et al. 2025, appendix
            A.3); None: nothing does, as in the official code.
        down_dims: Widths of the levels. UMI, and the official code on real robots, have 256, 512, 1024.
        kernel: Of the convolutions.
        groups: Of the normalisations.
        step_dim: Width of the timestep's embedding.
        scale: Modulate by scale and bias; or by bias alone.
        diffusion: Schedule, training and sampling.
    """

    type: Literal["unet-diffusion"] = "unet-diffusion"
    horizon: int = Field(16, ge=1)
    text: AnyText | None = None
    down_dims: tuple[Positive, ...] = Field((512, 1024, 2048), min_length=1)
    kernel: int = Field(5, ge=1)
    groups: int = Field(8, ge=1)
    step_dim: int = Field(128, ge=4)
    scale: bool = True
    diffusion: Diffusion = Diffusion()

    @model_validator(mode="after")
    def _fits(self) -> UNetDiffusion:
        halvings = len(self.down_dims) - 1
        if self.horizon % 2**halvings:
            raise ValueError(
                f"horizon {self.horizon} must be a multiple of {2**halvings}: {len(self.down_dims)} down_dims halve it "
                f"{halvings} times"
            )
        if any(width % self.groups for width in self.down_dims):
            raise ValueError(f"down_dims {list(self.down_dims)} must be multiples of groups {self.groups}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd, so that the chunk keeps its length")
        if self.step_dim % 2:
            raise ValueError(f"step_dim {self.step_dim} must be even: sines and cosines")
        return self

    def build(self, layout: FeatureLayout, spaces: Spaces) -> DiffusionDecoder:
        from vpolicy_diffusion_policy.decoder import DiffusionDecoder
        from vpolicy_diffusion_policy.unet import ConditionalUNet

        network = ConditionalUNet(self, spaces.actions.dim, layout.tokens * layout.dim + text_dim(self.text))
        return DiffusionDecoder(self, network, spaces)


class TransformerDiffusion(DecoderComponent):
    """Diffusion Policy's transformer over action chunks (section III-A).

    ``transformer_for_diffusion.py``. Timestep and tokens, each behind a small network, are the memory that the noisy
    actions attend to.

    Args:
        horizon: H, actions of a chunk.
        text: What reads the instruction, whose pooled vector is appended to every token; None: nothing does, as in the
            official code.
        width, layers, heads: Of the decoder.
        condition_layers: Layers of a transformer encoder over timestep and tokens; 0: a small network for each alone.
        dropout_embedding, dropout_attention: Probabilities; the second one also behind the feed-forward layers.
        causal: Actions attend only to themselves and earlier ones.
        causal_cross_attention: Action i attends only to the timestep and the first i + 1 tokens. In the official code
            chunks begin with the oldest observed frame, and this keeps actions from frames that come after them. Here
            chunks begin with the newest one, so that the same rule hides nothing (``false``).
        initial_deviation: Standard deviation of the weights at the start; None is torch's own, which grows as the width
            falls and suits short trainings of small networks.
        diffusion: Schedule, training and sampling.
    """

    type: Literal["transformer-diffusion"] = "transformer-diffusion"
    horizon: int = Field(10, ge=1)
    text: AnyText | None = None
    width: int = Field(256, ge=4)
    layers: int = Field(8, ge=1)
    heads: int = Field(4, ge=1)
    condition_layers: int = Field(0, ge=0)
    dropout_embedding: float = Field(0.0, ge=0, lt=1)
    dropout_attention: float = Field(0.3, ge=0, lt=1)
    causal: bool = True
    causal_cross_attention: bool = False
    initial_deviation: float | None = Field(0.02, gt=0)
    diffusion: Diffusion = Diffusion()

    @model_validator(mode="after")
    def _fits(self) -> TransformerDiffusion:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads {self.heads}")
        return self

    def build(self, layout: FeatureLayout, spaces: Spaces) -> DiffusionDecoder:
        from vpolicy_diffusion_policy.decoder import DiffusionDecoder
        from vpolicy_diffusion_policy.transformer import ConditionalTransformer

        token = layout.dim + text_dim(self.text)
        return DiffusionDecoder(self, ConditionalTransformer(self, spaces.actions.dim, token, layout.tokens), spaces)


def text_dim(text: TextComponent | None) -> int:
    """Width of the instruction's vector, 0 where nothing reads it."""
    return 0 if text is None else text.pooled_dim


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Image, UNetDiffusion, TransformerDiffusion]
