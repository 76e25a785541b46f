"""A video model whose insides can be read. It knows nothing of actions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from videopolicy.contracts.learner import Learner
from videopolicy.types import FeatureLayout, Observation


@dataclass
class Denoised:
    """What one forward of a video model gives.

    Args:
        prediction: ``(B, V, T, c, h, w)`` estimate of the clean latents, or None when only taps were asked for.
        taps: Per tap ``(B, V, T, C, h', w')``.
        step_embedding: ``(B, E)``, the model's own embedding of the level, where it has one.
    """

    prediction: Tensor | None
    taps: dict[str, Tensor]
    step_embedding: Tensor | None = None


class VideoBackbone(Learner):
    """A video denoiser over clips of T frames in V views."""

    @property
    @abstractmethod
    def tap_specs(self) -> dict[str, FeatureLayout]:
        """Readable feature maps by name: channels as ``dim``, axes frames, height, width (for one view)."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int, int]:
        """``(T, c, h, w)`` of one clip of one view."""

    @property
    @abstractmethod
    def highest_level(self) -> float:
        """The noisiest level at which the model is run, as sigma."""

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Frames ``(B, V, T, 3, H, W)`` in [-1, 1] to latents ``(B, V, T, c, h, w)``."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents ``(B, V, T, c, h, w)`` to frames ``(B, V, T, 3, H, W)`` in [-1, 1]."""

    @abstractmethod
    def condition(self, observation: Observation, unconditional: bool = False) -> Any:
        """What the model is told besides the noisy clip (first frame, text); opaque to everyone else.

        Args:
            unconditional: The condition of the unconditional branch of guidance.
        """

    @abstractmethod
    def denoise(
        self, noisy: Tensor, level: Tensor, condition: Any, taps: Sequence[str] = (), predict: bool = True
    ) -> Denoised:
        """One forward.

        Args:
            noisy: ``(B, V, T, c, h, w)``, clean latents plus ``level`` times unit noise.
            level: ``(B,)`` sigma.
            condition: From ``condition``.
            taps: Names of the feature maps to return.
            predict: Whether the prediction is needed; without it the forward may stop at the last tap.
        """
