"""The benchmark keeps what every benchmark promises."""

import pytest
from vpolicy_pusht.components import PushT

from videopolicy.testing import BenchmarkContract


@pytest.mark.simulator
class TestPushT(BenchmarkContract):
    @pytest.fixture
    def component(self):
        return PushT(goals="random", image_size=32)
