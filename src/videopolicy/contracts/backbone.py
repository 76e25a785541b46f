"""A video model whose insides can be read. It knows nothing of actions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

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


class VideoBackbone(Learner):
    """A video denoiser over clips of V views.

    What is denoised belongs to the model: views may be clips of their own, or frames of one clip with further
    frames between them. Frames and feature maps always come by view.
    """

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
