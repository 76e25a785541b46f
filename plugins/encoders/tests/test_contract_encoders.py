"""Every encoder keeps what an extractor promises, and DistilBERT what a text encoder does."""

from __future__ import annotations

from pathlib import Path

import pytest
from vpolicy_encoders.components import DistilBertText, ImageEncoder
from vpolicy_encoders.options import Autoencoder, Timm, Voltron

from videopolicy.components.text import WordText
from videopolicy.testing import ExtractorContract, TextContract

SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
VIT = Timm(arguments=SMALL, dim=16, stride=8, image_size=(32, 32))
WORDS = WordText(width=16, buckets=64)


class TestFrozenVisionTransformer(ExtractorContract):
    @pytest.fixture
    def component(self):
        return ImageEncoder(encoder=VIT)


class TestVisionTransformerThatLearns(ExtractorContract):
    @pytest.fixture
    def component(self):
        return ImageEncoder(encoder=VIT.model_copy(update={"resize": (40, 48)}), frozen=False)


class TestConvolutionalNetworkThatLearns(ExtractorContract):
    @pytest.fixture
    def component(self):
        return ImageEncoder(
            encoder=Timm(model="test_resnet", dim=96, stride=32, image_size=(48, 32), interpolation="bicubic"),
            frozen=False,
        )


class TestNetworkWithChannelsLast(ExtractorContract):
    @pytest.fixture
    def component(self):
        arguments = {"embed_dim": 24, "window_size": 2}
        name = "swin_tiny_patch4_window7_224"
        return ImageEncoder(encoder=Timm(model=name, arguments=arguments, dim=192, stride=32, image_size=(64, 64)))


class TestVoltronWithDistilBert(ExtractorContract):
    @pytest.fixture
    def component(self, distilbert_folder: Path):
        text = DistilBertText(weights=str(distilbert_folder), max_length=8, width=32)
        return ImageEncoder(encoder=Voltron(patch=8, width=16, depth=2, heads=2, image_size=(32, 32)), text=text)


class TestVoltronThatLearns(ExtractorContract):
    @pytest.fixture
    def component(self):
        sizes = {"patch": 8, "width": 16, "depth": 2, "heads": 2, "image_size": (32, 32)}
        encoder = Voltron(**sizes, class_token=True, tokens="visual")
        return ImageEncoder(encoder=encoder, text=WORDS, frozen=False)


class TestLatents(ExtractorContract):
    @pytest.fixture
    def component(self):
        return ImageEncoder(encoder=Autoencoder(image_size=(32, 16), channels=(32, 32), layers=1))


class TestLatentsThatLearn(ExtractorContract):
    @pytest.fixture
    def component(self):
        return ImageEncoder(encoder=Autoencoder(image_size=(16, 16), channels=(32, 32), layers=1), frozen=False)


class TestDistilBert(TextContract):
    @pytest.fixture
    def component(self, distilbert_folder: Path):
        return DistilBertText(weights=str(distilbert_folder), max_length=8, width=32)
