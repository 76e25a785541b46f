"""A text encoder: sentences to tokens and one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from videopolicy.contracts.checked import Check, Part, ensure_kind, ensure_tensor


@dataclass
class EncodedText:
    """Encoded sentences.

    Args:
        tokens: ``(B, L, D)``.
        pooled: ``(B, P)``, one vector a sentence.
        mask: ``(B, L)`` bool, False where a token only fills a short sentence up; None where the encoder does not say.
    """

    tokens: Tensor
    pooled: Tensor
    mask: Tensor | None = None


def _ensure_encoded(part: Any, found: Any, sentences: list[str], *_: Any, **__: Any) -> object:
    ensure_kind(part, "forward", found, EncodedText)
    length, width, pooled = part._origin.text if part._origin and part._origin.text else (None, None, None)
    like, rows = next(part.parameters(), None), len(sentences)
    ensure_tensor(part, "forward", found.tokens, (rows, length, width), "sentences, tokens, width", like, "`tokens`")
    ensure_tensor(part, "forward", found.pooled, (rows, pooled), "sentences, width", like, "`pooled`")
    return found


class TextEncoder(Part, nn.Module, ABC):
    """Reads instructions. Any sentence is allowed, unknown words included."""

    _checks: ClassVar[Mapping[str, Check]] = {"forward": _ensure_encoded}

    @abstractmethod
    def forward(self, sentences: list[str]) -> EncodedText:
        """Encode sentences."""
