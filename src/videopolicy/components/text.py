"""Text components of the core: CLIP's text tower, and a small trained reader that needs no download.

Only declarations stand here, so that recipes are read without torch; the modules are in
`videopolicy.components.text_encoders`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from videopolicy.components.clip_files import CLIP, CLIP_FILES
from videopolicy.components.kinds import Component, TextComponent

if TYPE_CHECKING:
    from videopolicy.contracts.text import TextEncoder


class ClipText(TextComponent):
    """CLIP's text transformer, always frozen.

    It gives both readings of a sentence that policies on video models use: the tokens after the last
    layer norm (``last_hidden_state``, padded with the end token, the padding masked), and the vector at
    the end token, projected and not normalised. The padding never reaches the vector, so that a length
    of 77 gives exactly what OpenAI's own ``encode_text`` gives.

    Args:
        weights: Hub id or local folder of a CLIP checkpoint as transformers writes it.
        max_length: L, tokens a sentence is padded or cut to, begin and end tokens included.
        width, pooled_width: Sizes of the checkpoint, so that a recipe can be checked without it; the
            defaults are those of ViT-B/32. Loading verifies them.
    """

    type: Literal["clip-text"] = "clip-text"
    weights: str = "openai/clip-vit-base-patch32"
    max_length: int = Field(20, ge=3, le=77)
    width: int = Field(512, ge=1)
    pooled_width: int = Field(512, ge=1)

    @property
    def dim(self) -> int:
        return self.width

    @property
    def length(self) -> int:
        return self.max_length

    @property
    def pooled_dim(self) -> int:
        return self.pooled_width

    def fetch(self) -> None:
        from videopolicy.weights import pretrained_folder

        pretrained_folder(self.weights, CLIP, CLIP_FILES)

    def build(self) -> TextEncoder:
        from videopolicy.components.text_encoders import ClipTextEncoder

        return ClipTextEncoder(self.weights, self.max_length, self.width, self.pooled_width)


class WordText(TextComponent):
    """A small encoder that is trained with whatever reads it, and has no vocabulary.

    Words, lower-cased and without punctuation, and their character n-grams are hashed into buckets
    (Bojanowski et al. 2017); a word is the mean of its buckets. A new word shares n-grams with words of
    the same stem, and no sentence is rejected.

    Args:
        width: D, of tokens and vector.
        words: L, tokens a sentence is padded or cut to.
        buckets: Number of embeddings.
        ngrams: Smallest and largest n of the character n-grams.
        layers: Transformer layers over the words; 0 leaves every word by itself.
        heads: Attention heads of these layers.
    """

    type: Literal["word-text"] = "word-text"
    width: int = Field(64, ge=1)
    words: int = Field(12, ge=1)
    buckets: int = Field(4096, ge=1)
    ngrams: tuple[int, int] = (3, 5)
    layers: int = Field(1, ge=0)
    heads: int = Field(4, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> WordText:
        if self.layers and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if not 1 <= self.ngrams[0] <= self.ngrams[1]:
            raise ValueError(f"ngrams are a smallest and a largest length, not {self.ngrams}")
        return self

    @property
    def dim(self) -> int:
        return self.width

    @property
    def length(self) -> int:
        return self.words

    @property
    def pooled_dim(self) -> int:
        return self.width

    def build(self) -> TextEncoder:
        from videopolicy.components.text_encoders import WordTextEncoder

        return WordTextEncoder(self.width, self.words, self.buckets, self.ngrams, self.layers, self.heads)


COMPONENTS: list[type[Component]] = [ClipText, WordText]
