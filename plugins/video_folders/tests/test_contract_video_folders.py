"""Both readers keep what every dataset promises."""

from __future__ import annotations

import pytest
from video_samples import captioned_folder, vpp_folder
from vpolicy_video_folders.components import CaptionedVideos, VppVideos

from videopolicy.testing import DatasetContract


class TestVppVideosAtSteps(DatasetContract):
    @pytest.fixture
    def component(self, tmp_path):
        return VppVideos(path=vpp_folder(tmp_path / "data", views=2), cameras={"a": 0, "b": 1}, image_size=(16, 16))


class TestVppVideosAsWholeClips(DatasetContract):
    @pytest.fixture
    def component(self, tmp_path):
        path = vpp_folder(tmp_path / "data")
        return VppVideos(path=path, sampling="whole-clip", image_size=(16, 16), memory_limit=0)


class TestCaptionedVideos(DatasetContract):
    @pytest.fixture
    def component(self, tmp_path):
        return CaptionedVideos(path=captioned_folder(tmp_path / "data"), image_size=(16, 16))
