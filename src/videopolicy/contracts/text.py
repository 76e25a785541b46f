"""A text encoder: sentences to tokens and one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class EncodedText:
    """Encoded sentences.

    Args:
        tokens: ``(B, L, D)``.
        pooled: ``(B, P)``, one vector a sentence.
    """

    tokens: Tensor
    pooled: Tensor


class TextEncoder(nn.Module, ABC):
    """Reads instructions. Any sentence is allowed, unknown words included."""

    @abstractmethod
    def forward(self, sentences: list[str]) -> EncodedText:
        """Encode sentences."""
