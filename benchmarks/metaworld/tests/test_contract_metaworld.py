"""The benchmark keeps what every benchmark promises."""

import pytest
from vpolicy_metaworld.components import MetaWorld

from videopolicy.testing import BenchmarkContract


@pytest.mark.simulator
class TestMetaWorld(BenchmarkContract):
    @pytest.fixture
    def component(self):
        return MetaWorld(task_names=("drawer-close-v3", "door-open-v3"), image_size=32, rendering="fast")
