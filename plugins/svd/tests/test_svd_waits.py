"""How often the video model makes the processor wait for a device: as often for many steps as for few."""

from __future__ import annotations

import pytest
import torch
from other_device import AWAY, other_device
from small_video_model import SPACES, TINY_VAE, build

from videopolicy import RowGenerator
from videopolicy.testing import toy_observation

OPTIONS = {
    "independent views": {"latent": TINY_VAE, "position_encode": True},
    "concatenated views": {
        "views": "concatenated",
        "pad_frame": True,
        "image_noise": 0.02,
        "text_tokens": "pooled",
        "video_guidance": "constant",
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@torch.no_grad()
def test_steps_of_a_prediction_wait_for_nothing(options):
    backbone = build(**options).eval()
    seen = toy_observation(SPACES, backbone.window)
    video = backbone.predict_video(seen, RowGenerator.from_seeds([0, 1]), steps=3)
    with other_device() as waits:
        backbone, there = backbone.to(AWAY), seen.to(AWAY)
        for steps in (3, 6):
            waits.clear()
            found = backbone.predict_video(there, RowGenerator.from_seeds([0, 1]), steps=steps)
            assert not waits, waits
            if steps == 3:
                assert (found.held.int() - video.int()).abs().max() <= 1


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@torch.no_grad()
def test_a_pass_waits_for_nothing(options):
    backbone = build(**options).eval()
    seen = toy_observation(SPACES, backbone.window)
    with other_device() as waits:
        backbone, there = backbone.to(AWAY), seen.to(AWAY)
        noisy, level = (torch.ones(shape, device=AWAY) for shape in ((2, *backbone.latent_shape), (2,)))
        waits.clear()
        condition = backbone.condition(there)
        backbone.denoise(noisy, level, condition, ["up0"])
        backbone.embed_level(level)
        assert not waits, waits
