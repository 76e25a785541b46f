"""The component `svd` and its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from videopolicy import AnyText, BackboneComponent, Component, FeatureLayout, Spaces, Window, hookimpl
from videopolicy.text import ClipText

if TYPE_CHECKING:
    from vpolicy_svd.backbone import SvdBackbone


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VaeLatent(_Options):
    """Stable Video Diffusion's autoencoder (diffusers' ``AutoencoderKLTemporalDecoder``), always frozen.

    Args:
        channels: Widths of its levels; each level but the last halves the image.
        layers: Residual layers per level.
        latent_channels: c.
        scaling_factor: What latents are multiplied with for the UNet.
        training_latents: Latents that training sees. The official preparation stores a sample of the
            posterior; conditioning and everything at test time use its mode.
        decode_frames: Frames decoded at a time.
    """

    type: Literal["vae"] = "vae"
    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = Field(2, ge=1)
    latent_channels: int = Field(4, ge=1)
    scaling_factor: float = 0.18215
    training_latents: Literal["sample", "mode"] = "sample"
    decode_frames: int = Field(7, ge=1)

    @property
    def patch(self) -> int:
        return 2 ** (len(self.channels) - 1)


class SpaceToDepthLatent(_Options):
    """Pixels rearranged: every patch becomes the channels of one latent cell. No weights, no loss of detail.

    Args:
        patch: Side of a patch in pixels.
        scaling_factor: What pixels in [-1, 1] are multiplied with for the UNet. Robot images have a
            standard deviation of about 0.5, and the diffusion expects about 1.
    """

    type: Literal["space-to-depth"] = "space-to-depth"
    patch: int = Field(8, ge=1)
    scaling_factor: float = 2.0

    @property
    def latent_channels(self) -> int:
        return 3 * self.patch**2


class UNet(_Options):
    """Shape of diffusers' ``UNetSpatioTemporalConditionModel``; the defaults are Stable Video Diffusion's.

    Args:
        channels: Widths of the levels, multiples of 32 (group normalisation); each level but the last
            halves the latent.
        heads: Attention heads of each level.
        attention: Which levels attend to text and over time; the innermost has its own in the middle.
        layers: Residual layers of each level on the way down (one more on the way up).
        transformer_layers: Transformer layers behind every residual layer of an attending level.
        time_ids_width: Width of the embedding of each of the three conditioning numbers.
    """

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    attention: tuple[bool, ...] = (True, True, True, False)
    layers: int = Field(2, ge=1)
    transformer_layers: int = Field(1, ge=1)
    time_ids_width: int = Field(256, ge=2)

    @model_validator(mode="after")
    def _fits(self) -> UNet:
        if not len(self.channels) == len(self.heads) == len(self.attention) > 0:
            raise ValueError(
                f"channels, heads and attention name the same levels, but have {len(self.channels)}, "
                f"{len(self.heads)} and {len(self.attention)} entries"
            )
        for channels, heads in zip(self.channels, self.heads, strict=True):
            if channels % 32 or channels % heads:
                raise ValueError(f"channels {channels} must be a multiple of 32 and of its {heads} heads")
        return self


class MicroConditioning(_Options):
    """The three numbers that Stable Video Diffusion is told besides image and text.

    Args:
        fps: Frames a second.
        motion_bucket: Amount of motion.
        noise_augmentation: Level of the noise on the image.
    """

    fps: float = 7
    motion_bucket: float = 127
    noise_augmentation: float = 0.0


class Svd(BackboneComponent):
    """Stable Video Diffusion with text in place of the image embedding.

    The first frame's latent is repeated over the clip and concatenated to the noisy latents; text tokens
    go into the cross-attention. VPP stage 1 trains exactly this (section 3.1; ``step1_train_svd.py`` and
    ``video_models/pipeline.py``), and the defaults are its official code's. EDM preconditioning with
    unit data deviation, as Stable Video Diffusion has it. Views are independent clips: they are folded
    into the batch.

    Args:
        weights: Hub id or local folder of a Stable Video Diffusion pipeline (subfolders ``unet`` and, for
            the ``vae`` latent, ``vae``). None trains from scratch; the ``vae`` latent then is random,
            which only tests want.
        image_size: Height and width that images are resized to.
        frames: T, frames of a clip, the present one included.
        stride: Environment steps between frames.
        latent: How images become latents.
        text: What reads the instruction.
        double_text: Concatenate the tokens with themselves on the channels, as the official code does to
            bring CLIP's 512 to Stable Video Diffusion's 1024.
        position_encode: Add sine-cosine positions to the tokens. The official checkpoints differ: true for
            ``svd-robot``, false for ``svd-robot-calvin-ft``.
        text_drop: Probability with which training replaces the text by zeros.
        unet: Shape of the network; weights must have the same.
        training, reading, sampling: Conditioning numbers in training, when features are read and when
            video is predicted. The official code uses three different triples (7, 4 and 4 frames a
            second; 0.02 noise in the pipeline's default); something trained from scratch wants them equal.
        unconditional_image: The image of the unconditional branch of guidance: the official sampler zeroes
            it for pixel input and keeps it for latent input (training never drops it).
        level_mean, level_deviation: Training levels are log-normal with these parameters, one per clip.
        level_min, level_max: Range of levels in sampling; features are read at the highest.
        past_end: Frames past the end of an episode repeat the last one. ``repeat`` trains on them as the
            official loader does, so that the video stands still when the episode is over; ``mask`` leaves
            them out of the loss.
        gradient_checkpointing: Recompute activations in the backward pass; slower, and far less memory.
    """

    type: Literal["svd"] = "svd"
    weights: str | None = None
    image_size: tuple[int, int] = (256, 256)
    frames: int = Field(16, ge=2)
    stride: int = Field(2, ge=1)
    latent: Annotated[VaeLatent | SpaceToDepthLatent, Field(discriminator="type")] = VaeLatent()
    text: AnyText = ClipText()
    double_text: bool = True
    position_encode: bool = False
    text_drop: float = Field(0.05, ge=0, le=1)
    unet: UNet = UNet()
    training: MicroConditioning = MicroConditioning()
    reading: MicroConditioning = MicroConditioning(fps=4)
    sampling: MicroConditioning = MicroConditioning(fps=4, noise_augmentation=0.02)
    unconditional_image: Literal["zero", "keep"] = "zero"
    level_mean: float = 0.7
    level_deviation: float = Field(1.6, gt=0)
    level_min: float = Field(0.002, gt=0)
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
        if self.position_encode and self.text.dim % 2:
            raise ValueError(f"position_encode needs text tokens of even width, not {self.text.dim}")
        if self.level_min >= self.level_max:
            raise ValueError(f"level_min {self.level_min} must be below level_max {self.level_max}")
        return self

    @property
    def clip_offsets(self) -> tuple[int, ...]:
        """Environment steps at which the frames of a clip stand, the present at 0."""
        return tuple(range(0, self.frames * self.stride, self.stride))

    @property
    def cross_attention_dim(self) -> int:
        return self.text.dim * (2 if self.double_text else 1)

    @property
    def latent_grid(self) -> tuple[int, int]:
        return self.image_size[0] // self.latent.patch, self.image_size[1] // self.latent.patch

    def window(self) -> Window:
        return Window(observed=(0,), future=self.clip_offsets[1:])

    def taps(self) -> dict[str, FeatureLayout]:
        """``up0`` (innermost) to the last up block, each behind its upsampling, as the official code reads them."""
        channels, taps = tuple(reversed(self.unet.channels)), {}
        for index, width in enumerate(channels):
            halvings = max(len(channels) - 2 - index, 0)
            height, columns = (size // 2**halvings for size in self.latent_grid)
            axes = (("frames", self.frames), ("height", height), ("width", columns))
            taps[f"up{index}"] = FeatureLayout(width, axes, step_embedding=4 * self.unet.channels[0])
        return taps

    def check(self, spaces: Spaces) -> list[str]:
        return [] if spaces.cameras else ["the video model needs at least one camera, the spaces have none"]

    def fetch(self) -> None:
        if self.weights is not None:
            from vpolicy_svd.loading import files_of, pretrained_folder

            parts = ("unet", "vae") if isinstance(self.latent, VaeLatent) else ("unet",)
            pretrained_folder(
                self.weights, "Stable Video Diffusion", [file for part in parts for file in files_of(part)]
            )

    def build(self, spaces: Spaces) -> SvdBackbone:
        from vpolicy_svd.backbone import SvdBackbone

        return SvdBackbone(self, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Svd]
