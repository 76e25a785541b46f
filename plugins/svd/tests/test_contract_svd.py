"""The backbone keeps what every backbone promises."""

import pytest
from vpolicy_svd.components import SpaceToDepthLatent, Svd, UNet, VaeLatent

from videopolicy.testing import BackboneContract
from videopolicy.text import WordText

TINY = {
    "frames": 2,
    "text": WordText(width=16, buckets=64),
    "double_text": False,
    "unet": UNet(channels=(32, 32), heads=(2, 2), attention=(False, True), layers=1, time_ids_width=8),
    "level_max": 80.0,
}


class TestOnPixels(BackboneContract):
    @pytest.fixture
    def component(self):
        return Svd(image_size=(16, 16), latent=SpaceToDepthLatent(patch=4), **TINY)


class TestOnAutoencoder(BackboneContract):
    @pytest.fixture
    def component(self):
        return Svd(image_size=(16, 16), latent=VaeLatent(channels=(32, 32, 32), layers=1), **TINY)
