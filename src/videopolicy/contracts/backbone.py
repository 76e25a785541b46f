"""A video model whose insides can be read. It knows nothing of actions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from videopolicy.contracts.checked import Check, described, ensure_kind, ensure_tensor, wrong
from videopolicy.contracts.learner import Learner
from videopolicy.types import Batch, FeatureLayout, Observation, RowGenerator


@dataclass
class Denoised:
    """What one forward of a video model gives.

    Args:
        prediction: ``(B, *latent_shape)`` estimate of the clean latents, or None when only taps were asked for.
        taps: Per tap ``(B, V, T, C, h', w')``, T frames of every view.
        step_embedding: ``(B, E)``, the model's own embedding of the level, where it has one.
    """

    prediction: Tensor | None
    taps: dict[str, Tensor]
    step_embedding: Tensor | None = None


@dataclass
class Clip:
    """A training window as a video model sees it.

    Args:
        latents: ``(B, *latent_shape)``, clean.
        condition: What the model is conditioned on, with the dropout and the noise of training.
        mask: Which of the latents count for the loss, in a form of the model's own; None for all.
    """

    latents: Tensor
    condition: Any
    mask: Tensor | None = None


def _ensure_denoised(
    part: VideoBackbone,
    found: Any,
    noisy: Tensor,
    level: Tensor,
    condition: Any,
    taps: Sequence[str] = (),
    predict: bool = True,
    **_: Any,
) -> object:
    ensure_kind(part, "denoise", found, Denoised)
    if predict:
        ensure_tensor(part, "denoise", found.prediction, noisy.shape, "as `noisy`", noisy, "`prediction`")
    if not isinstance(found.taps, dict) or not set(taps) <= set(found.taps):
        got = f"the taps {sorted(found.taps)}" if isinstance(found.taps, dict) else f"as `taps` {described(found.taps)}"
        wrong(part, "denoise", got, f"a dictionary of {sorted(taps)}")
    specs = part.tap_specs if taps else {}
    for name in taps:
        axes = dict(specs[name].axes)
        shape = (len(noisy), None, axes["frames"], specs[name].dim, axes["height"], axes["width"])
        what = "rows, views, frames, channels, height, width"
        ensure_tensor(part, "denoise", found.taps[name], shape, what, noisy, f"tap '{name}'")
    if found.step_embedding is not None:
        embedded = (len(noisy), None)
        ensure_tensor(part, "denoise", found.step_embedding, embedded, "rows, width", noisy, "`step_embedding`")
    return found


def _ensure_latents(part: VideoBackbone, found: Any, frames: Tensor, *_: Any, **__: Any) -> object:
    # How many frames there are is for a model's own calls to say: some encode the first one alone.
    shape = (len(frames), *[None] * len(part.latent_shape))
    ensure_tensor(part, "encode", found, shape, f"rows and latents such as {part.latent_shape}", frames)
    return found


def _ensure_frames(part: VideoBackbone, found: Any, latents: Tensor, *_: Any, **__: Any) -> object:
    shape = (len(latents), None, None, 3, None, None)
    ensure_tensor(part, "decode", found, shape, "rows, views, frames, colours, height, width", latents)
    return found


def _ensure_clip(part: VideoBackbone, found: Any, batch: Batch, *_: Any, **__: Any) -> object:
    ensure_kind(part, "training_clip", found, Clip)
    shape = (len(batch), *part.latent_shape)
    ensure_tensor(part, "training_clip", found.latents, shape, "rows and `latent_shape`", field="`latents`")
    return found


def _ensure_error(part: VideoBackbone, found: Any, prediction: Tensor, *_: Any, **__: Any) -> object:
    ensure_tensor(part, "error", found, (), "one scalar", prediction)
    return found


def _ensure_embedded(part: VideoBackbone, found: Any, level: Tensor, *_: Any, **__: Any) -> object:
    if found is not None:
        ensure_tensor(part, "embed_level", found, (len(level), None), "levels, width", level)
    return found


class VideoBackbone(Learner):
    """A video denoiser over clips of V views.

    What is denoised belongs to the model: views may be clips of their own, or frames of one clip with further
    frames between them. Frames and feature maps always come by view.
    """

    _checks: ClassVar[Mapping[str, Check]] = {
        **Learner._checks,
        "denoise": _ensure_denoised,
        "encode": _ensure_latents,
        "decode": _ensure_frames,
        "training_clip": _ensure_clip,
        "error": _ensure_error,
        "embed_level": _ensure_embedded,
    }

    @property
    @abstractmethod
    def tap_specs(self) -> dict[str, FeatureLayout]:
        """Readable feature maps by name: channels as ``dim``, axes frames, height, width (for one view)."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of what is denoised for one sample; opaque to everyone else."""

    @property
    @abstractmethod
    def frame_axes(self) -> tuple[int, ...]:
        """The leading sizes of `latent_shape` that count frames: those of a clip last, before them how many clips a
        sample has, where it has several. Frames that belong to no view count too."""

    @property
    @abstractmethod
    def highest_level(self) -> float:
        """The noisiest level at which the model is run, as sigma."""

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Frames ``(B, V, T, 3, H, W)`` in [-1, 1] to latents ``(B, *latent_shape)``."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents ``(B, *latent_shape)`` to frames ``(B, V, T, 3, H, W)`` in [-1, 1]."""

    @abstractmethod
    def condition(
        self, observation: Observation, unconditional: bool = False, generator: RowGenerator | None = None
    ) -> Any:
        """What the model is conditioned on besides the noisy clip (first frame, text); opaque to everyone else.

        Args:
            unconditional: The condition of the unconditional branch of guidance.
            generator: Noise of the rows, where the model adds some to its condition.
        """

    @abstractmethod
    def join(self, conditions: Sequence[Any]) -> Any:
        """Several conditions one behind the other on the batch axis, so that branches run as one batch."""

    @abstractmethod
    def denoise(
        self, noisy: Tensor, level: Tensor, condition: Any, taps: Sequence[str] = (), predict: bool = True
    ) -> Denoised:
        """One forward.

        Args:
            noisy: ``(B, *latent_shape)``, clean latents plus ``level`` times unit noise.
            level: ``(B,)`` sigma.
            condition: From ``condition`` or ``join``.
            taps: Names of the feature maps to return.
            predict: Whether the prediction is needed; without it the forward may stop at the last tap.
        """

    def embed_level(self, level: Tensor) -> Tensor | None:
        """The model's own embedding ``(B, E)`` of levels ``(B,)`` without a forward, where it has one."""
        return None

    @abstractmethod
    def training_clip(self, batch: Batch) -> Clip:
        """A training window with its future frames; random draws come from torch's global generator."""

    @abstractmethod
    def error(self, prediction: Tensor, clip: Clip, level: Tensor) -> Tensor:
        """Scalar training loss of a prediction ``(B, *latent_shape)`` at levels ``(B,)``."""
