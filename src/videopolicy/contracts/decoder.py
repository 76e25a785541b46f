"""Turns features into action chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from videopolicy.contracts.extractor import FeatureStream
from videopolicy.types import RowGenerator


class ActionDecoder(nn.Module, ABC):
    """Owns its sampling of levels and its denoising loop."""

    @abstractmethod
    def loss(self, stream: FeatureStream, actions: Tensor, mask: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            stream: Features; read with ``at``.
            actions: ``(B, H, A)`` normalised.
            mask: ``(B, H)`` bool, False where there is no action; those must not reach the loss.
        """

    @abstractmethod
    def sample(self, stream: FeatureStream, generator: RowGenerator) -> Tensor:
        """Normalised actions ``(B, H, A)``; features are read with ``descend`` or ``at``."""
