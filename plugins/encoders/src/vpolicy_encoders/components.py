"""The components `image-encoder` and `distilbert-text`.

One extractor has all encoders: they differ in a network and in how its published weights are read, not in what a policy
does with them. VC-1 is no class of its own: it is timm's vision transformer with weights of its authors
(`vpolicy_encoders.options.Timm`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from videopolicy import Component, ExtractorComponent, Spaces, TextComponent, hookimpl
from videopolicy.parts.requirements import missing_cameras
from vpolicy_encoders.options import DISTILBERT, DISTILBERT_FILES, ImageEncoderOptions

if TYPE_CHECKING:
    from vpolicy_encoders.extractor import ImageEncoderExtractor
    from vpolicy_encoders.language import DistilBertTextEncoder


class ImageEncoder(ImageEncoderOptions, ExtractorComponent):
    """What a pretrained image encoder makes of the present frame of every camera, token by token.

    Table 3 of Video Prediction Policy (Hu et al. 2024) reads its policy from such encoders instead of the video model;
    its code for them was not published. `resampled` condenses the tokens to the paper's 256.

    Options: `vpolicy_encoders.options.ImageEncoderOptions`.
    """

    type: Literal["image-encoder"] = "image-encoder"

    def fetch(self) -> None:
        self.encoder.fetch()

    def check(self, spaces: Spaces) -> list[str]:
        return missing_cameras(self.type, spaces)

    def build(self, spaces: Spaces) -> ImageEncoderExtractor:
        from vpolicy_encoders.extractor import ImageEncoderExtractor

        return ImageEncoderExtractor(self, spaces)


class DistilBertText(TextComponent):
    """DistilBERT (Sanh et al. 2019), always frozen: what Voltron reads sentences with.

    Its tokens are the last hidden state, its vector is that of the first token. Which tokens fill a sentence up is said
    by the mask.

    Args:
        weights: Hub id or local folder of a DistilBERT checkpoint as transformers writes it.
        max_length: L, tokens that a sentence is padded or cut to, begin and end included. Voltron has 20.
        width: Of the checkpoint, so that a recipe can be checked without it. Loading verifies it.
    """

    type: Literal["distilbert-text"] = "distilbert-text"
    weights: str = "distilbert/distilbert-base-uncased"
    max_length: int = Field(20, ge=3, le=512)
    width: int = Field(768, ge=1)

    @property
    def dim(self) -> int:
        return self.width

    @property
    def length(self) -> int:
        return self.max_length

    @property
    def pooled_dim(self) -> int:
        return self.width

    def fetch(self) -> None:
        from videopolicy.parts.weights import pretrained_folder

        pretrained_folder(self.weights, DISTILBERT, DISTILBERT_FILES)

    def build(self) -> DistilBertTextEncoder:
        from vpolicy_encoders.language import DistilBertTextEncoder

        return DistilBertTextEncoder(self.weights, self.max_length, self.width)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [ImageEncoder, DistilBertText]
