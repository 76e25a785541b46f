"""Turns features into action chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from videopolicy.contracts.checked import Check, Part, ensure_decoder_loss, ensure_tensor
from videopolicy.contracts.extractor import FeatureStream
from videopolicy.types import RowGenerator


def _ensure_chunks(part: Any, found: Any, stream: FeatureStream, generator: RowGenerator) -> object:
    horizon, actions = part._origin.actions if part._origin and part._origin.actions else (None, None)
    like = next(part.parameters(), None)
    ensure_tensor(part, "sample", found, (len(generator), horizon, actions), "rows, horizon, actions", like)
    return found


class ActionDecoder(Part, nn.Module, ABC):
    """Owns its sampling of levels and its denoising loop."""

    _checks: ClassVar[Mapping[str, Check]] = {"loss": ensure_decoder_loss, "sample": _ensure_chunks}

    every_parameter_learns: bool = False
    """See `Learner`."""

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
