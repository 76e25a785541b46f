"""DistilBERT, the module behind `distilbert-text`."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from videopolicy import EncodedText, FrozenTextEncoder, WeightsError, to_device
from videopolicy.parts.weights import (
    ensure_no_differences,
    explain_loading,
    pretrained_folder,
    quiet_transformers,
    without_loading,
)
from vpolicy_encoders.options import DISTILBERT, DISTILBERT_FILES

_MASKED_WORDS = ("vocab_layer_norm.", "vocab_projector.", "vocab_transform.")
"""The head that the published model was trained with."""


class DistilBertTextEncoder(FrozenTextEncoder):
    """DistilBERT.

    Raises:
        WeightsError: The checkpoint is unreachable, incomplete, or of another width.
    """

    def __init__(self, weights: str, max_length: int, width: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.model, self.tokenizer = _loaded(weights, width)
        self.model.requires_grad_(False).eval()

    def encode(self, sentence: str) -> EncodedText:
        ids, mask = self._ids(sentence)
        tokens = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return EncodedText(tokens, tokens[:, 0], mask.bool())

    def _ids(self, sentence: str) -> tuple[Tensor, Tensor]:
        """Ids and mask ``(1, L)``."""
        device = self.model.device
        if self.tokenizer is None:
            ids, mask = _arbitrary_ids(sentence, self.max_length, self.model.config.vocab_size)
        else:
            found = self.tokenizer(
                [sentence], padding="max_length", truncation=True, max_length=self.max_length, return_tensors="pt"
            )
            ids, mask = found["input_ids"], found["attention_mask"]
        return to_device(ids, device), to_device(mask, device)


def _loaded(weights: str, width: int) -> tuple[Any, Any]:
    """Model and tokenizer; None in place of the tokenizer where nothing is loaded."""
    from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizer

    if without_loading():
        heads = width // 64 if width % 64 == 0 else 1
        return DistilBertModel(DistilBertConfig(dim=width, hidden_dim=4 * width, n_heads=heads)), None
    folder = pretrained_folder(weights, DISTILBERT, DISTILBERT_FILES)
    with explain_loading(folder, DISTILBERT, DISTILBERT_FILES), quiet_transformers():
        tokenizer = DistilBertTokenizer.from_pretrained(folder)
        model, info = DistilBertModel.from_pretrained(folder, output_loading_info=True)
    unexpected = [name for name in info["unexpected_keys"] if not name.startswith(_MASKED_WORDS)]
    ensure_no_differences(weights, info["missing_keys"], unexpected)
    if model.config.dim != width:
        raise WeightsError(
            f"{DISTILBERT} in {weights} has the width {model.config.dim}, the recipe says {width}.",
            f"Set width: {model.config.dim} for distilbert-text.",
        )
    return model, tokenizer


def _arbitrary_ids(sentence: str, length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """In place of a tokenizer: ids that depend on the words, behind a first one and before a last one."""
    words = [1 + crc32(word.encode()) % (vocabulary - 1) for word in sentence.split()][: length - 2]
    ids = [1, *words, 1]
    filling = length - len(ids)
    return torch.tensor([ids + [0] * filling]), torch.tensor([[1] * len(ids) + [0] * filling])
