"""The components `uva`, `uva-joint` and `uva-action` and their options.

Defaults: github.com/ShuangLI59/unified_video_action (288e154), base size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from videopolicy import (
    AnyDecoder,
    AnyText,
    ClipText,
    Component,
    DecoderComponent,
    FeatureLayout,
    LearnerComponent,
    PolicyComponent,
    Spaces,
    WhenActing,
    Window,
    hookimpl,
)
from vpolicy_uva.guided_component import ModelGuided
from vpolicy_uva.importing import KlF16Importer, MarImporter, UvaImporter

if TYPE_CHECKING:
    from vpolicy_uva.action import UvaActionDecoder
    from vpolicy_uva.joint import JointModel
    from vpolicy_uva.policy import UvaPolicy

Mode = Literal["policy", "video", "forward", "inverse", "full"]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KlLatent(_Options):
    """The frozen autoencoder kl-f16 of MAR (Li et al. 2024) as diffusers' ``AutoencoderKL``.

    Args:
        weights: Folder with ``config.json`` and ``diffusion_pytorch_model.safetensors`` as diffusers writes it, which
            ``vpolicy import kl-f16`` makes of the official ``kl16.ckpt``, or a hub id. None: random weights, for
            recipes whose stages bring their own.
        channels: Widths of its levels; each level but the last halves the image.
        layers: Residual layers per level.
        latent_channels: c.
        scaling_factor: What latents are multiplied with.
        posterior: The official code draws latents from the posterior, when acting too; ``mode`` takes its mean.
    """

    type: Literal["kl"] = "kl"
    weights: str | None = None
    channels: tuple[int, ...] = (128, 128, 256, 256, 512)
    layers: int = Field(2, ge=1)
    latent_channels: int = Field(16, ge=1)
    scaling_factor: float = 0.2325
    posterior: Literal["sample", "mode"] = "sample"

    @property
    def patch(self) -> int:
        return 2 ** (len(self.channels) - 1)


class SpaceToDepthLatent(_Options):
    """Pixels rearranged: every patch becomes the channels of one token. No weights, no loss of detail.

    Args:
        patch: Side of a patch in pixels.
        scaling_factor: What pixels in [-1, 1] are multiplied with. Robot images have a standard deviation of about
            0.5, and the diffusion expects about 1.
    """

    type: Literal["space-to-depth"] = "space-to-depth"
    patch: int = Field(8, ge=1)
    scaling_factor: float = 2.0

    @property
    def latent_channels(self) -> int:
        return 3 * self.patch**2


class CosineLatent(_Options):
    """The lowest frequencies of a blockwise cosine transform, as in JPEG: few channels without any weights.

    A token of 192 raw numbers asks more of a small diffusion head than one of 16: the noise that it must predict has
    as many dimensions.

    Args:
        patch: Side of a block in pixels; every block becomes one token.
        luma, chroma: Coefficients kept of the brightness, and of each of the two colour differences.
        scaling_factor: What coefficients are multiplied with, besides 1 + their order: the amplitude of natural images
            falls about with the frequency, and the diffusion expects a deviation of about 1.
    """

    type: Literal["cosine"] = "cosine"
    patch: int = Field(8, ge=1)
    luma: int = Field(10, ge=1)
    chroma: int = Field(3, ge=1)
    scaling_factor: float = Field(7.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> CosineLatent:
        if max(self.luma, self.chroma) > self.patch**2:
            raise ValueError(f"a block of {self.patch} x {self.patch} pixels has {self.patch**2} coefficients")
        return self

    @property
    def latent_channels(self) -> int:
        return self.luma + 2 * self.chroma


class Transformer(_Options):
    """Shape of the masked joint transformer; the defaults are MAR's base size, which all official configurations use.

    Args:
        width, depth, heads: Of the encoder.
        decoder_width, decoder_depth, decoder_heads: Of the decoder; None: as the encoder.
        mlp_ratio: Hidden width of the feed-forward layers, in multiples of the width.
        attention_dropout, dropout: On attention weights; behind attention and in the feed-forward layers.
        checkpointing: Compute activations again on the way back instead of keeping them.
    """

    width: int = Field(768, ge=2)
    depth: int = Field(12, ge=1)
    heads: int = Field(12, ge=1)
    decoder_width: int | None = Field(None, ge=2)
    decoder_depth: int | None = Field(None, ge=1)
    decoder_heads: int | None = Field(None, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    attention_dropout: float = Field(0.1, ge=0, lt=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    checkpointing: bool = False

    @property
    def out_width(self) -> int:
        """Width of the joint latent."""
        return self.decoder_width or self.width

    @property
    def decoder_shape(self) -> tuple[int, int, int]:
        """Width, depth and heads of the decoder."""
        return self.out_width, self.decoder_depth or self.depth, self.decoder_heads or self.heads

    @model_validator(mode="after")
    def _fits(self) -> Transformer:
        width, _, heads = self.decoder_shape
        for name, size, count in (("width", self.width, self.heads), ("decoder_width", width, heads)):
            if size % count:
                raise ValueError(f"{name} {size} is not a multiple of its {count} heads")
        return self


class Head(_Options):
    """A diffusion head: a residual MLP that denoises one vector, told a condition (``SimpleMLPAdaLN`` of MAR).

    Args:
        width, depth: Of the MLP.
        training_steps: Of the cosine schedule.
        sampling_steps: Of the respaced schedule that sampling follows. Paper: 100 in simulation, 16 on the robot.
        temperature: Scale of the noise that every sampling step adds.
        clip: Cut the clean estimate of every sampling step to this much on either side of 0; None: leave it. The
            official code leaves the video's. At the noisiest steps an error of the noise is multiplied by thousands,
            and a head that was trained briefly then leaves the range of what it has ever seen.
        noise_samples: Levels and noises drawn per vector and step of training, which share its condition. The
            official code draws one (``diffusion_batch_mul`` is read and never used), MAR four.
    """

    width: int = Field(1024, ge=2)
    depth: int = Field(6, ge=1)
    training_steps: int = Field(1000, ge=2)
    sampling_steps: Annotated[int, WhenActing()] = Field(100, ge=2)
    temperature: Annotated[float, WhenActing()] = Field(0.95, ge=0)
    clip: Annotated[float | None, WhenActing()] = Field(None, gt=0)
    noise_samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Head:
        if self.sampling_steps > self.training_steps:
            raise ValueError(f"sampling_steps {self.sampling_steps} exceed training_steps {self.training_steps}")
        return self


class ActionHead(Head):
    """The action head: the same, with clean estimates cut to the range of normalised actions."""

    clip: Annotated[float | None, WhenActing()] = Field(1.0, gt=0)


class UvaJoint(LearnerComponent):
    """Everything up to the joint latent Z, and the video heads (section III; ``mar_con_unified.py``).

    Trained on its own it is a video model: clips without actions are enough.

    Views are fused cell by cell, as the official code fuses its wrist camera: every view is a stream of channels of
    its own, before and behind, and every predicted view has a head of its own.

    Args:
        image_size: Height and width that images are resized to.
        frames: F, frames of the history and of the future alike.
        stride: Environment steps between future frames; the first is ``stride`` steps ahead.
        history_stride: Environment steps between history frames, the last of which is the present one; 0 repeats the
            present one. Paper's Fig. 6 varies the length of the history.
        random_history: Training draws the history frames from all steps that the history spans, with repetition and
            the last one always present (``different_history_freq``). The policy is then handed every step.
        horizon: Actions that belong to the future frames; None: ``frames * stride``. Forward dynamics sees them.
        past_actions: Actions before the present that the model is told; 0 for none, as in all shipped configurations.
            The paper's figure 2 has them.
        past_action_drop: Probability with which training hides each of them (``1 - action_mask_ratio``).
        proprioception: Tell the robot's state at the history frames.
        predicted_views: Cameras whose future is predicted; None: all. The others are seen only.
        inverse_hides: Which cameras' history inverse dynamics hides. The official code hides the first one's only.
        latent: Images to tokens.
        text: What reads the instruction, whose pooled vector is repeated; None: no language.
        text_tokens: How often.
        text_drop: Probability with which training hides the instruction, for guidance.
        transformer: The masked transformer.
        video: The video head; None: no video is predicted (the paper's UVA-action).
        video_steps: Autoregressive steps in which `predict_video` reveals the frames, where the caller names no number.
        mask_ratio_min: The share of masked tokens, one draw for all rows, is normal around 1 with deviation 0.25, cut
            at this and at 1.
        future_mask: Whether frames past the end of an episode, which repeat its last one, count for the loss. The
            official code pads episodes by a few steps and counts them.
        forward: Trained on its own, it is told the actions that lead to the future frames: a model of forward dynamics
            and nothing else. Inside `uva` the modes decide.
        initial_weights: Folder that ``vpolicy import mar`` made of an ImageNet checkpoint of MAR; what has the same
            name and shape is taken from there.
    """

    type: Literal["uva-joint"] = "uva-joint"
    image_size: tuple[int, int] = (256, 256)
    frames: int = Field(4, ge=1)
    stride: int = Field(4, ge=1)
    history_stride: int = Field(4, ge=0)
    random_history: bool = False
    horizon: int | None = Field(None, ge=1)
    past_actions: int = Field(0, ge=0)
    past_action_drop: float = Field(0.5, ge=0, le=1)
    proprioception: bool = False
    predicted_views: tuple[str, ...] | None = Field(None, min_length=1)
    inverse_hides: Literal["first", "all"] = "first"
    latent: Annotated[KlLatent | SpaceToDepthLatent | CosineLatent, Field(discriminator="type")] = KlLatent()
    text: AnyText | None = ClipText(max_length=30)
    text_tokens: int = Field(64, ge=1)
    text_drop: float = Field(0.1, ge=0, lt=1)
    transformer: Transformer = Transformer()
    video: Head | None = Head()
    video_steps: Annotated[int, WhenActing()] = Field(1, ge=1)
    mask_ratio_min: float = Field(0.7, ge=0, lt=1)
    future_mask: bool = True
    forward: bool = False
    initial_weights: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> UvaJoint:
        patch = self.latent.patch
        if any(size % patch for size in self.image_size):
            raise ValueError(f"image_size {list(self.image_size)} must be multiples of {patch}")
        tokens = self.frames * self.grid[0] * self.grid[1]
        for name, count in (("horizon", self.chunk), ("past_actions", self.past_actions)):
            if count and tokens % count:
                raise ValueError(f"{name} {count} must divide the {tokens} tokens of all frames")
        if self.random_history and not self.history_stride:
            raise ValueError("random_history needs a history_stride above 0")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of a frame in tokens."""
        return self.image_size[0] // self.latent.patch, self.image_size[1] // self.latent.patch

    @property
    def chunk(self) -> int:
        """Actions that belong to the future frames."""
        return self.horizon or self.frames * self.stride

    @property
    def layout(self) -> FeatureLayout:
        """Unfolding of the joint latent."""
        height, width = self.grid
        axes = (("frames", self.frames), ("height", height), ("width", width))
        return FeatureLayout(self.transformer.out_width, axes)

    @property
    def history(self) -> tuple[int, ...]:
        """Offsets of the history frames when acting; one for all where they repeat."""
        return tuple(-self.history_stride * k for k in reversed(range(self.frames))) if self.history_stride else (0,)

    def window(self) -> Window:
        spanned = self.frames * self.history_stride
        observed = tuple(range(1 - spanned, 1)) if self.random_history else self.history
        future = tuple(self.stride * (k + 1) for k in range(self.frames))
        return Window(observed, future, self.chunk if self.forward else 0, self.past_actions)

    def check(self, spaces: Spaces) -> list[str]:
        found = []
        if self.proprioception and spaces.state is None:
            found.append("uva-joint has proprioception on, but the spaces have no state")
        known = [camera.name for camera in spaces.cameras]
        unknown = [name for name in self.predicted_views or () if name not in known]
        if unknown:
            found.append(f"uva-joint predicts view {', '.join(unknown)}, and the cameras are {', '.join(known)}")
        return found

    def build(self, spaces: Spaces) -> JointModel:
        from vpolicy_uva.joint import JointModel

        return JointModel(self, spaces)


class UvaAction(DecoderComponent):
    """UVA's action head: features condensed to one latent an action, and every action denoised by itself
    (section III-C; ``diffusion_action_loss.py``).

    Args:
        horizon: H, actions of a chunk.
        aggregation: How features become H latents. ``conv_fc``, the default of all official configurations: a
            convolution and pooling to 4 x 4 in every frame, linear layers, and a linear map over frames; needs a
            grid. ``conv_ori``: a transposed convolution over frames, then the mean over the grid; H must be a
            multiple of the frames. ``conv2`` and ``fc2``: two convolutions or linear maps over all tokens.
        head: The diffusion head.
        level_per: Whether every action has a noise level of its own in training, as in the official code, or all
            actions of a chunk share one, which features that change with the level need.
    """

    type: Literal["uva-action"] = "uva-action"
    horizon: int = Field(16, ge=1)
    aggregation: Literal["conv_fc", "conv_ori", "conv2", "fc2"] = "conv_fc"
    head: ActionHead = ActionHead()
    level_per: Literal["action", "chunk"] = "action"

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


class Uva(PolicyComponent):
    """Unified Video Action model (Li et al. 2025): actions read out of a joint latent of video and actions.

    Args:
        joint: The model of video and actions.
        action: What turns the joint latent into actions: any decoder.
        modes: What training practises, drawn uniformly (section III-D): ``policy``, ``video``, ``forward`` and
            ``inverse`` dynamics, ``full`` dynamics (video and actions). UMI's configuration has policy and full; one
            that is listed twice is drawn twice as often. Windows without actions are practised as ``video`` whatever is
            drawn.
        modes_per: Whether a whole batch practises one mode, as in the official code, or every row its own.
        guidance: Of the instruction, when acting; 1 is none. The official code crashes at any other.
    """

    type: Literal["uva"] = "uva"
    joint: UvaJoint = UvaJoint()
    action: AnyDecoder = UvaAction()
    modes: tuple[Mode, ...] = Field(("video", "forward", "policy", "inverse", "full"), min_length=1)
    modes_per: Literal["batch", "sample"] = "batch"
    guidance: Annotated[float, WhenActing()] = 1.0

    @model_validator(mode="after")
    def _fits(self) -> Uva:
        filmed = dict.fromkeys(mode for mode in self.modes if mode in ("video", "forward", "full"))
        if self.joint.video is None and filmed:
            raise ValueError(f"modes {', '.join(filmed)} predict video, and joint.video is null")
        if self.guidance != 1 and self.joint.text is None:
            raise ValueError("guidance is of the instruction, and joint.text is null")
        if not any(mode in ("policy", "inverse", "full") for mode in self.modes):
            raise ValueError("none of the modes teaches actions; to train on video alone, target the joint model")
        return self

    def window(self) -> Window:
        frames = self.joint.window()
        horizon = max(self.joint.chunk, self.action.horizon)
        return Window(frames.observed, frames.future, horizon, frames.past_actions)

    def check(self, spaces: Spaces) -> list[str]:
        return self.joint.check(spaces) or self.action.check(self.joint.layout, spaces)

    def build(self, spaces: Spaces) -> UvaPolicy:
        from vpolicy_uva.policy import UvaPolicy

        return UvaPolicy(self, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Uva, UvaJoint, UvaAction, ModelGuided, UvaImporter, MarImporter, KlF16Importer]
