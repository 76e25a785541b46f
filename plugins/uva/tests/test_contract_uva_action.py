"""UVA's action head keeps what every decoder promises."""

import pytest
from vpolicy_uva.components import UvaAction
from vpolicy_uva.options import ActionHead

from videopolicy.testing import DecoderContract

TINY = {"horizon": 4, "head": ActionHead(width=16, depth=2, sampling_steps=5)}


class TestConvFc(DecoderContract):
    @pytest.fixture
    def component(self):
        return UvaAction(**TINY)


class TestConvOri(DecoderContract):
    @pytest.fixture
    def component(self):
        return UvaAction(aggregation="conv_ori", **TINY)


class TestConv2WithOneLevelForTheChunk(DecoderContract):
    @pytest.fixture
    def component(self):
        return UvaAction(aggregation="conv2", level_per="chunk", **TINY)


class TestFc2WithSeveralDraws(DecoderContract):
    @pytest.fixture
    def component(self):
        head = ActionHead(width=16, depth=1, sampling_steps=3, noise_samples=3)
        return UvaAction(aggregation="fc2", horizon=3, head=head)
