"""The backbone keeps what every backbone promises."""

import pytest
from vpolicy_svd.components import Svd
from vpolicy_svd.options import UNet, VaeLatent

from videopolicy.components.text import WordText
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import BackboneContract

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


class TestConcatenatedViews(BackboneContract):
    """As Video Policy has it: a pad frame, every view behind the other, dropout by frame, noise on the image."""

    @pytest.fixture
    def component(self):
        return Svd(
            image_size=(16, 16),
            latent=VaeLatent(channels=(32, 32, 32), layers=1, condition_encoder="own"),
            views="concatenated",
            pad_frame=True,
            text_tokens="pooled",
            text_drop=0.1,
            image_drop=0.1,
            drop_per="frame",
            image_noise=0.02,
            **{**TINY, "unet": TINY["unet"].model_copy(update={"norm_epsilon": "sgm"})},
        )


class TestOnlyThePresent(BackboneContract):
    """A prediction horizon of nothing: all frames are the present one."""

    @pytest.fixture
    def component(self):
        latent = SpaceToDepthLatent(patch=4)
        return Svd(image_size=(16, 16), latent=latent, stride=0, views="concatenated", **TINY)
