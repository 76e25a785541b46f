"""Extractor and decoder keep what every extractor and decoder promises."""

import pytest
from vpolicy_vpp.components import DitDiffusion, OneStep, Resampled
from vpolicy_vpp.options import Linear, SamplingLevels, VideoFormer, VideoFormer2D

from videopolicy.components.text import WordText
from videopolicy.testing import DecoderContract, ExtractorContract
from videopolicy.testing.toys import ToyBackbone, ToyExtractor

FORMER = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8, "latents_per_frame": 3}
TEXT = WordText(width=16, buckets=64)
TINY = {
    "horizon": 3,
    "text": TEXT,
    "width": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "heads": 2,
    "sampling_levels": SamplingLevels(steps=3),
}


class TestVideoFormer(ExtractorContract):
    @pytest.fixture
    def component(self):
        return OneStep(backbone=ToyBackbone(), taps=("hidden",), former=VideoFormer(**FORMER))


class TestVideoFormer2DWithoutNoise(ExtractorContract):
    @pytest.fixture
    def component(self):
        return OneStep(backbone=ToyBackbone(), taps=("hidden",), former=VideoFormer2D(**FORMER), noise="zero")


class TestLinearAfterTwoStepsTrainedThrough(ExtractorContract):
    @pytest.fixture
    def component(self):
        former = Linear(dim=16)
        return OneStep(backbone=ToyBackbone(), taps=("hidden",), former=former, denoising_steps=2, frozen=False)


class TestResampledPictures(ExtractorContract):
    @pytest.fixture
    def component(self):
        return Resampled(extractor=ToyExtractor(), former=VideoFormer2D(**FORMER), position_bands=2)


class TestResampledFramesOfAFrozenVideoModel(ExtractorContract):
    @pytest.fixture
    def component(self):
        inside = OneStep(backbone=ToyBackbone(), taps=("hidden",), former=VideoFormer(**FORMER))
        return Resampled(extractor=inside, former=VideoFormer(**FORMER))


class TestEveryTokenByItself(ExtractorContract):
    @pytest.fixture
    def component(self):
        return Resampled(extractor=ToyExtractor(), former=Linear(dim=16))


class TestDitDiffusion(DecoderContract):
    @pytest.fixture
    def component(self):
        return DitDiffusion(**TINY)


class TestDitDiffusionWithPositionsAndState(DecoderContract):
    @pytest.fixture
    def component(self):
        return DitDiffusion(
            proprioception=True,
            causal_self_attention=False,
            causal_cross_attention=False,
            action_positions=True,
            adaptive_norm="adaln-zero",
            noise_samples=2,
            **TINY,
        )
