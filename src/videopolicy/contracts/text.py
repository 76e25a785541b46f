"""A text encoder: sentences to tokens and one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
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


REMEMBERED_SENTENCES = 4096
"""How many sentences an encoder remembers before it forgets them all."""


class FrozenTextEncoder(TextEncoder):
    """One that nothing trains, always in evaluation mode.

    Every sentence is encoded by itself and remembered: a frozen encoder gives the same every time, and a row then never
    depends on what shares its batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._remembered: dict[str, EncodedText] = {}
        self.register_load_state_dict_post_hook(lambda module, keys: self._remembered.clear())

    @abstractmethod
    def encode(self, sentence: str) -> EncodedText:
        """One sentence, with B = 1."""

    def train(self, mode: bool = True) -> FrozenTextEncoder:
        return super().train(False)

    def _apply(self, *args: Any, **kwargs: Any) -> FrozenTextEncoder:
        self._remembered.clear()
        return super()._apply(*args, **kwargs)

    def forward(self, sentences: list[str]) -> EncodedText:
        rows = [self._once(sentence) for sentence in sentences]
        masks = [row.mask for row in rows if row.mask is not None]
        mask = torch.cat(masks) if masks else None
        return EncodedText(torch.cat([row.tokens for row in rows]), torch.cat([row.pooled for row in rows]), mask)

    def _once(self, sentence: str) -> EncodedText:
        if sentence not in self._remembered:
            if len(self._remembered) >= REMEMBERED_SENTENCES:
                self._remembered.clear()
            # What is remembered while acting must serve training as well, which rejects inference tensors.
            with torch.inference_mode(False), torch.no_grad():
                self._remembered[sentence] = self.encode(sentence)
        return self._remembered[sentence]
