"""The component `svd` and its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import (
    AnyText,
    BackboneComponent,
    ClipText,
    Component,
    FeatureLayout,
    Spaces,
    WhenActing,
    Window,
    hookimpl,
)
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.parts.requirements import missing_cameras
from vpolicy_svd.options import ColorJitter, MicroConditioning, UNet, VaeLatent

if TYPE_CHECKING:
    from vpolicy_svd.backbone import SvdBackbone


class Svd(BackboneComponent):
    """Stable Video Diffusion with text in place of the image embedding.

    The first frame's latent is repeated over the clip and concatenated to the noisy latents; text tokens
    go into the cross-attention. VPP stage 1 trains exactly this (section 4.1; ``step1_train_svd.py`` and
    ``video_models/pipeline.py``), and the defaults are its official code's. Video Policy trains the same network
    with its views one behind the other in one clip (section 4.1 and appendix A.1; ``configs/stage_1.yaml``); its
    settings are named below. EDM preconditioning with unit data deviation, as Stable Video Diffusion has it.

    Args:
        weights: Hub id or local folder of a Stable Video Diffusion pipeline (subfolders ``unet`` and, for
            the ``vae`` latent, ``vae``). None trains from scratch; the ``vae`` latent then is random,
            which only tests want.
        unet_start: What the UNet begins with where ``weights`` are named: these, or random numbers, so that nothing but
            the autoencoder is pretrained (VPP's Table 4, "w/o SVD Pretrain").
        image_size: Height and width that images are resized to.
        frames: T, frames of every view, the present one included.
        stride: Environment steps between frames. 0: every frame is the present one, and the model learns to
            rebuild what it is conditioned on (Video Policy's prediction horizon of 0 steps).
        views: ``independent`` views are clips of their own, folded into the batch. ``concatenated`` views are one
            clip, one view behind the other on the time axis (Video Policy), so that they can exchange
            something; every frame is conditioned on the image of its own view.
        pad_frame: Put the present frame of the first view before everything (Video Policy, whose 3 x 8 or 2 x 12
            frames become the 25 that Stable Video Diffusion XT was trained on).
        latent: How images become latents.
        text: What reads the instruction.
        double_text: Concatenate the tokens with themselves on the channels, as the official code does to
            bring CLIP's 512 to Stable Video Diffusion's 1024.
        text_tokens: ``pooled`` reads one token, the sentence's vector, instead of all (Video Policy).
        position_encode: Add sine-cosine positions to the tokens. The official checkpoints differ: true for
            ``svd-robot``, false for ``svd-robot-calvin-ft``.
        text_drop, image_drop: Probabilities with which training replaces text and image by zeros, each on its own
            (Video Policy: 0.1 and 0.1).
        drop_per: What is drawn for: a whole clip, or every frame of it by itself (Video Policy). Attention over time
            reads the text of the first frame.
        image_noise: Deviation of the noise on the image that the model is conditioned on, in training and in use
            (Video Policy: 0.02, pixels in [-1, 1]).
        color_jitter: Augmentation of the training clips; None for none (Video Policy has it).
        unet: Shape of the network; weights must have the same.
        training, reading, sampling: Conditioning numbers in training, when features are read and when
            video is predicted. VPP's official code uses three different triples (7, 4 and 4 frames a
            second; 0.02 noise in the pipeline's default); something trained from scratch wants them equal.
        unconditional_image: The image of the unconditional branch of guidance: the official sampler zeroes
            it for pixel input and keeps it for latent input (training never drops it).
        guidance_scale: Scale of classifier-free guidance of a predicted clip; 1 is none, and half the cost. Reported
            videos and their quality have it; features are read without. The default is VPP's (appendix B.3, and the
            ``guidance_scale`` of its configuration, which its training's previews have, with the image kept in both
            branches; its script passes 3 and zeroes it), Video Policy's is 2 (appendix A.1).
        video_guidance: How guidance is spread over the frames of a predicted clip: ``linear`` from 1 to its scale
            as in Stable Video Diffusion's pipeline, or ``constant`` (Video Policy's evaluation).
        level_mean, level_deviation: Training levels are log-normal with these parameters, one per clip (Video
            Policy: mean 1).
        level_min, level_max: Range of levels in sampling; features are read at the highest.
        past_end: Frames past the end of an episode repeat the last one. ``repeat`` trains on them as the
            official loader does, so that the video stands still when the episode is over; ``mask`` leaves
            them out of the loss.
        gradient_checkpointing: Recompute activations in the backward pass; slower, and far less memory.
    """

    type: Literal["svd"] = "svd"
    weights: str | None = None
    unet_start: Literal["weights", "random"] = "weights"
    image_size: tuple[int, int] = (256, 256)
    frames: int = Field(16, ge=2)
    stride: int = Field(2, ge=0)
    views: Literal["independent", "concatenated"] = "independent"
    pad_frame: bool = False
    latent: Annotated[VaeLatent | SpaceToDepthLatent, Field(discriminator="type")] = VaeLatent()
    text: AnyText = ClipText()
    double_text: bool = True
    text_tokens: Literal["all", "pooled"] = "all"
    position_encode: bool = False
    text_drop: float = Field(0.05, ge=0, le=1)
    image_drop: float = Field(0.0, ge=0, le=1)
    drop_per: Literal["clip", "frame"] = "clip"
    image_noise: float = Field(0.0, ge=0)
    color_jitter: ColorJitter | None = None
    unet: UNet = UNet()
    training: MicroConditioning = MicroConditioning()
    reading: MicroConditioning = MicroConditioning(fps=4)
    sampling: Annotated[MicroConditioning, WhenActing()] = MicroConditioning(fps=4, noise_augmentation=0.02)
    unconditional_image: Literal["zero", "keep"] = "zero"
    guidance_scale: Annotated[float, WhenActing()] = Field(7.5, ge=1)
    video_guidance: Annotated[Literal["linear", "constant"], WhenActing()] = "linear"
    level_mean: float = 0.7
    level_deviation: float = Field(1.6, gt=0)
    level_min: Annotated[float, WhenActing()] = Field(0.002, gt=0)
    level_max: float = Field(700.0, gt=0)
    past_end: Literal["repeat", "mask"] = "repeat"
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Svd:
        step = self.latent.patch * 2 ** (len(self.unet.channels) - 1)
        if any(size <= 0 or size % step for size in self.image_size):
            raise ValueError(
                f"image_size {list(self.image_size)} must be multiples of {step}: "
                f"latent cells of {self.latent.patch} pixels, halved {len(self.unet.channels) - 1} times by the UNet"
            )
        if self.position_encode and (self.text_tokens == "pooled" or self.text.dim % 2):
            raise ValueError("position_encode needs all text tokens, of even width")
        if self.pad_frame and self.views == "independent":
            raise ValueError("pad_frame stands before all views of one clip: it needs views: concatenated")
        if self.unet_start == "random" and not (self.weights and isinstance(self.latent, VaeLatent)):
            raise ValueError(
                "unet_start: random needs weights and a latent of type vae, which then is all they are for"
            )
        if self.level_min >= self.level_max:
            raise ValueError(f"level_min {self.level_min} must be below level_max {self.level_max}")
        return self

    @property
    def clip_offsets(self) -> tuple[int, ...]:
        """Environment steps at which the frames of a view stand, the present at 0."""
        return tuple(frame * self.stride for frame in range(self.frames))

    @property
    def text_dim(self) -> int:
        """Width of the text tokens before they are doubled."""
        return self.text.pooled_dim if self.text_tokens == "pooled" else self.text.dim

    @property
    def cross_attention_dim(self) -> int:
        return self.text_dim * (2 if self.double_text else 1)

    @property
    def latent_grid(self) -> tuple[int, int]:
        return self.image_size[0] // self.latent.patch, self.image_size[1] // self.latent.patch

    def window(self) -> Window:
        return Window(observed=(0,), future=self.clip_offsets[1:] if self.stride else ())

    def taps(self) -> dict[str, FeatureLayout]:
        """All readable feature maps, in the order in which a forward pass reaches them.

        ``down1.0`` is the output of the first layer of the second block on the way down (of its attention where it
        has one), ``down1.downsample`` that of its downsampling; ``mid``; ``up0`` (innermost) to the last up block
        are read behind their upsampling, as VPP's official code does, their layers ``up0.0``, ``up0.1`` before it.
        """
        channels, layers = self.unet.channels, self.unet.layers
        last = len(channels) - 1
        found: dict[str, tuple[int, int]] = {}
        for block, width in enumerate(channels):
            found |= {f"down{block}.{layer}": (width, block) for layer in range(layers)}
            if block < last:
                found[f"down{block}.downsample"] = (width, block + 1)
        found["mid"] = (channels[-1], last)
        for block, width in enumerate(reversed(channels)):
            found |= {f"up{block}.{layer}": (width, last - block) for layer in range(layers + 1)}
            found[f"up{block}"] = (width, max(last - block - 1, 0))
        return {tap: self._map(width, halvings) for tap, (width, halvings) in found.items()}

    def _map(self, width: int, halvings: int) -> FeatureLayout:
        height, columns = (size // 2**halvings for size in self.latent_grid)
        axes = (("frames", self.frames), ("height", height), ("width", columns))
        return FeatureLayout(width, axes, step_embedding=4 * self.unet.channels[0])

    def check(self, spaces: Spaces) -> list[str]:
        return missing_cameras("the video model", spaces)

    def fetch(self) -> None:
        if self.weights is not None:
            from vpolicy_svd.loading import files_of, pretrained_folder

            unet = ["unet"] if self.unet_start == "weights" else []
            vae = ["vae"] if isinstance(self.latent, VaeLatent) else []
            files = [file for part in (*unet, *vae) for file in files_of(part)]
            pretrained_folder(self.weights, "Stable Video Diffusion", files)

    def build(self, spaces: Spaces) -> SvdBackbone:
        from vpolicy_svd.backbone import SvdBackbone

        return SvdBackbone(self, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Svd]
