"""Extractor and decoder keep what every extractor and decoder promises."""

import pytest
from vpolicy_video_policy.components import ActionUNet, EveryStep
from vpolicy_video_policy.options import Adapter, SamplingLevels

from videopolicy import FeatureLayout
from videopolicy.testing import DecoderContract, ExtractorContract
from videopolicy.testing.toys import ToyBackbone

SMALL = {"trunk": ((16, 2),), "deep_layers": 0, "halvings": 2, "halving_blocks": 1, "deep_groups": 2, "norm_groups": 4}
ONE_TAP = Adapter(stages=((16, 2),), merges=(), squeeze=(), blocks=1, **SMALL)
TWO_TAPS = Adapter(stages=((16, 2), (16, 2)), merges=((8, 2),), squeeze=((8, 2),), blocks=1, **SMALL)
TINY = {"horizon": 4, "down_dims": (8, 16), "groups": 4, "step_dim": 8, "sampling_levels": SamplingLevels(steps=3)}


class TestGuidedToy(ExtractorContract):
    @pytest.fixture
    def component(self):
        return EveryStep(backbone=ToyBackbone(), taps=("hidden",), adapter=ONE_TAP)


class TestToyWithALowestLevel(ExtractorContract):
    @pytest.fixture
    def component(self):
        return EveryStep(backbone=ToyBackbone(), taps=("hidden",), adapter=ONE_TAP, guidance=1, lowest_level=0.5)


class TestFrozenViewsInOneClip(ExtractorContract):
    @pytest.fixture
    def component(self, views_in_one_clip):
        return EveryStep(backbone=views_in_one_clip, taps=("up1.0", "down0.downsample"), adapter=TWO_TAPS, frozen=True)


class TestJointViewsInOneClip(ExtractorContract):
    @pytest.fixture
    def component(self, views_in_one_clip):
        return EveryStep(backbone=views_in_one_clip, taps=("up1.0", "down0.downsample"), adapter=TWO_TAPS)


class TestActionUNet(DecoderContract):
    @pytest.fixture
    def component(self):
        return ActionUNet(**TINY)


class TestActionUNetWithStateAndGivenEmbedding(DecoderContract):
    @pytest.fixture
    def layout(self):
        return FeatureLayout(dim=16, axes=(("frames", 1), ("height", 2), ("width", 2)), step_embedding=12)

    @pytest.fixture
    def component(self):
        return ActionUNet(proprioception=True, **TINY)
