"""The modules behind `videopolicy.components.text`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional

from videopolicy.components.clip_files import CLIP, CLIP_FILES
from videopolicy.contracts.text import REMEMBERED_SENTENCES, EncodedText, FrozenTextEncoder, TextEncoder
from videopolicy.errors import WeightsError
from videopolicy.types import to_device
from videopolicy.weights import (
    ensure_no_differences,
    explain_loading,
    pretrained_folder,
    quiet_transformers,
    without_loading,
)

PIECES_PER_WORD = 24

_LAYERS = {512: 12, 768: 12, 1024: 24, 1280: 32}
"""Layers of the published text towers (ViT-B, L, H and bigG) by width, for building one without its config."""

_NOT_TEXT = ("vision_model.", "visual_projection.", "logit_scale", "text_model.embeddings.position_ids")


class ClipTextEncoder(FrozenTextEncoder):
    """CLIP's text transformer.

    Raises:
        WeightsError: The checkpoint is unreachable, incomplete, or of other sizes.
    """

    def __init__(self, weights: str, max_length: int, width: int, pooled_width: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.model, self.tokenizer = _load_clip(weights, width, pooled_width)
        self.model.requires_grad_(False).eval()

    def encode(self, sentence: str) -> EncodedText:
        ids = self.tokenizer(
            [sentence], padding="max_length", truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        return EncodedText(*self.encode_ids(ids["input_ids"], ids["attention_mask"]))

    def encode_ids(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids ``(B, L)`` and their mask to tokens ``(B, L, D)`` and projected vectors ``(B, P)``."""
        device = self.model.device
        # transformers looks into the mask to skip it where it hides nothing; shapes alone cannot be looked into.
        shown = None if device.type == "meta" else to_device(mask, device)
        output = self.model(input_ids=to_device(ids, device), attention_mask=shown)
        return output.last_hidden_state, output.text_embeds


def _load_clip(weights: str, width: int, pooled_width: int) -> tuple[Any, Any]:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    if without_loading():
        config = CLIPTextConfig(
            hidden_size=width,
            projection_dim=pooled_width,
            intermediate_size=4 * width,
            num_attention_heads=width // 64 if width % 64 == 0 else 1,
            num_hidden_layers=_LAYERS.get(width, 12),
        )
        return CLIPTextModelWithProjection(config), _arbitrary_ids
    folder = pretrained_folder(weights, CLIP, CLIP_FILES)
    with explain_loading(folder, CLIP, CLIP_FILES), quiet_transformers():
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        model, info = CLIPTextModelWithProjection.from_pretrained(folder, output_loading_info=True)
    unexpected = [key for key in info["unexpected_keys"] if not key.startswith(_NOT_TEXT)]
    ensure_no_differences(weights, info["missing_keys"], unexpected)
    found = (model.config.hidden_size, model.config.projection_dim)
    if found != (width, pooled_width):
        raise WeightsError(
            f"CLIP's text encoder in {weights} has width {found[0]} and pooled width {found[1]}; "
            f"the recipe says {width} and {pooled_width}.",
            f"Set `width: {found[0]}` and `pooled_width: {found[1]}` for clip-text.",
        )
    return model, tokenizer


def _arbitrary_ids(sentences: list[str], max_length: int, **_: Any) -> dict[str, Tensor]:
    """In place of a tokenizer where nothing is loaded: ids of the right range that depend on the words, the end
    token last."""
    begin, end = 49406, 49407
    rows = [[crc32(word.encode()) % begin for word in sentence.split()][: max_length - 2] for sentence in sentences]
    ids = [[begin, *row, *[end] * (max_length - 1 - len(row))] for row in rows]
    mask = [[1] * (len(row) + 2) + [0] * (max_length - 2 - len(row)) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


@lru_cache(maxsize=65536)
def word_buckets(word: str, buckets: int, smallest: int, largest: int) -> tuple[int, ...]:
    """Buckets of a word and of its character n-grams, from 1 to ``buckets``; 0 stays free for padding.

    CRC-32 and not Python's hash: the same on every machine and in every process.
    """
    marked = f"<{word}>"
    pieces = [marked]
    for size in range(smallest, min(largest, len(marked) - 1) + 1):
        pieces += [marked[start : start + size] for start in range(len(marked) - size + 1)]
    return tuple(1 + crc32(piece.encode()) % buckets for piece in pieces[:PIECES_PER_WORD])


class WordTextEncoder(TextEncoder):
    """Hashed words with positions, and optional transformer layers over them."""

    def __init__(self, width: int, words: int, buckets: int, ngrams: tuple[int, int], layers: int, heads: int) -> None:
        super().__init__()
        self.words, self.buckets, self.ngrams = words, buckets, ngrams
        self.embedding = nn.Embedding(buckets + 1, width, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(words, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self._remembered: dict[str, Tensor] = {}

    def forward(self, sentences: list[str]) -> EncodedText:
        ids = to_device(torch.stack([self._ids(sentence) for sentence in sentences]), self.positions.device)
        words = functional.embedding_bag(ids.flatten(0, 1), self.embedding.weight, mode="mean", padding_idx=0)
        tokens = words.unflatten(0, (len(sentences), self.words)) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        present = (ids[..., 0] > 0).unsqueeze(-1).to(tokens)
        pooled = (tokens * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
        return EncodedText(tokens, pooled)

    def _ids(self, sentence: str) -> Tensor:
        """Buckets ``(L, pieces)`` of a sentence, 0 where there is no word or no further piece."""
        if sentence not in self._remembered:
            if len(self._remembered) >= REMEMBERED_SENTENCES:
                self._remembered.clear()
            ids = torch.zeros(self.words, PIECES_PER_WORD, dtype=torch.long, device="cpu")
            for row, word in zip(ids, re.findall(r"\w+", sentence.lower()), strict=False):
                buckets = word_buckets(word, self.buckets, *self.ngrams)
                row[: len(buckets)] = torch.tensor(buckets, device="cpu")
            self._remembered[sentence] = ids
        return self._remembered[sentence]
