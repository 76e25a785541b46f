"""How often the video model makes the processor wait for a device: as often for many steps as for few."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from other_device import AWAY, other_device
from small_video_model import SPACES, TINY_VAE, build
from vpolicy_svd.backbone import SvdBackbone

from videopolicy import Observation, RowGenerator
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


def remember_text(backbone: SvdBackbone, seen: Observation) -> None:
    """As a frozen text encoder does; the toy one brings words to the device whenever it is asked."""
    encoded = backbone.text(seen.instructions)
    backbone.text.forward = lambda sentences: encoded


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@torch.no_grad()
def test_steps_of_a_prediction_wait_for_nothing(options):
    backbone = build(**options).eval()
    seen = toy_observation(SPACES, backbone.window)
    video = backbone.predict_video(seen, RowGenerator.from_seeds([0, 1]), steps=3)
    with other_device() as waits:
        backbone, there = backbone.to(AWAY), seen.to(AWAY)
        remember_text(backbone, there)
        counted: dict[int, Counter] = {}
        for steps in (3, 6):
            waits.clear()
            found = backbone.predict_video(there, RowGenerator.from_seeds([0, 1]), steps=steps)
            counted[steps] = Counter(waits)
            if steps == 3:
                assert (found.held.int() - video.int()).abs().max() <= 1
    # The rows' noise, once for the clips and once for the images, and the levels.
    assert counted[3] == counted[6] == {"to the device": 2 + bool(options.get("image_noise"))}, counted


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@torch.no_grad()
def test_a_pass_waits_for_nothing(options):
    backbone = build(**options).eval()
    seen = toy_observation(SPACES, backbone.window)
    with other_device() as waits:
        backbone, there = backbone.to(AWAY), seen.to(AWAY)
        noisy, level = (torch.ones(shape, device=AWAY) for shape in ((2, *backbone.latent_shape), (2,)))
        remember_text(backbone, there)
        waits.clear()
        condition = backbone.condition(there)
        backbone.denoise(noisy, level, condition, ["up0"])
        backbone.embed_level(level)
        assert not waits, waits
