"""The benchmark keeps what every benchmark promises."""

import pytest
from vpolicy_robomimic.components import Robomimic

from videopolicy.testing import BenchmarkContract


@pytest.mark.simulator
class TestRobomimic(BenchmarkContract):
    @pytest.fixture
    def component(self):
        return Robomimic(image_size=32, rendering="fast", max_steps=40)
