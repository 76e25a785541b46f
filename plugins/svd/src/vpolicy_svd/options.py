"""Options of `svd`, and groups of options: the autoencoder, the shape of the network, what it is conditioned on,
augmentation.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import AnyText, ClipText, FeatureLayout, WhenActing, Window
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.parts.options import Options


class VaeLatent(Options):
    """Stable Video Diffusion's autoencoder (diffusers' ``AutoencoderKLTemporalDecoder``), always frozen.

    Args:
        channels: Widths of its levels; each level but the last halves the image.
        layers: Residual layers per level.
        latent_channels: c.
        scaling_factor: What latents are multiplied with for the UNet.
        training_latents: Latents that training sees. The official preparation stores a sample of the
            posterior; conditioning and everything at test time use its mode.
        decode_frames: Frames decoded at a time.
        condition_encoder: Who encodes the image that the model is conditioned on. ``own`` is a second encoder, as
            Stable Video Diffusion's first code base has it and Video Policy's checkpoints carry it.
        precision: ``float32`` computes in single precision in mixed-precision training too, as Video Policy's code does
            (``disable_first_stage_autocast``); ``autocast`` in the numbers of the rest. VPP's code has the whole
            autoencoder in half precision.
    """

    type: Literal["vae"] = "vae"
    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = Field(2, ge=1)
    latent_channels: int = Field(4, ge=1)
    scaling_factor: float = 0.18215
    training_latents: Literal["sample", "mode"] = "sample"
    decode_frames: int = Field(7, ge=1)
    condition_encoder: Literal["shared", "own"] = "shared"
    precision: Literal["float32", "autocast"] = "float32"

    @property
    def patch(self) -> int:
        return 2 ** (len(self.channels) - 1)


class UNet(Options):
    """Shape of diffusers' ``UNetSpatioTemporalConditionModel``; the defaults are Stable Video Diffusion's.

    Args:
        channels: Widths of the levels, multiples of 32 (group normalisation); each level but the last
            halves the latent.
        heads: Attention heads of each level.
        attention: Which levels attend to text and over time; the innermost has its own in the middle.
        layers: Residual layers of each level on the way down (one more on the way up).
        transformer_layers: Transformer layers behind every residual layer of an attending level.
        time_ids_width: Width of the embedding of each of the three conditioning numbers.
        norm_epsilon: Of the group normalisations outside the transformers. diffusers has 1e-6 in most of them,
            Stable Video Diffusion's first code base (``sgm``) has 1e-5 in all, and was trained with it.
    """

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    attention: tuple[bool, ...] = (True, True, True, False)
    layers: int = Field(2, ge=1)
    transformer_layers: int = Field(1, ge=1)
    time_ids_width: int = Field(256, ge=2)
    norm_epsilon: Literal["diffusers", "sgm"] = "diffusers"

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


class MicroConditioning(Options):
    """The three numbers that Stable Video Diffusion is conditioned on besides image and text.

    Args:
        fps: Frames a second.
        motion_bucket: Amount of motion.
        noise_augmentation: Level of the noise on the image.
    """

    fps: float = 7
    motion_bucket: float = 127
    noise_augmentation: float = 0.0


class ColorJitter(Options):
    """torchvision's ``ColorJitter``: the same change for all frames of a view, another one for every view.

    Args:
        brightness, contrast, saturation: Largest change of the factor 1.
        hue: Largest turn, 1 being the whole circle.
    """

    brightness: float = Field(0.2, ge=0)
    contrast: float = Field(0.2, ge=0)
    saturation: float = Field(0.2, ge=0)
    hue: float = Field(0.05, ge=0, le=0.5)


class SvdOptions(Options):
    """Options of `svd`.

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
            ``svd-robot``, false for ``svd-robot-calvin-ft``. Folders made by ``vpolicy import vpp`` say which, and are
            compared.
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
        gradient_checkpointing: Keep nothing but the inputs of every pair of a residual and a transformer layer for the
            backward pass, which computes the rest again: a second forward of time, and far less memory.
    """

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
    def _fits(self) -> SvdOptions:
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
    def as_trained(self) -> dict[str, bool]:
        """Entries of a folder of weights besides diffusers' own, see `vpolicy_svd.loading.ensure_as_trained`."""
        return {"position_encode": self.position_encode}

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
