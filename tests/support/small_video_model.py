"""`svd` at a size that a test can train."""

from __future__ import annotations

from typing import Any

import torch
from vpolicy_svd.backbone import SvdBackbone
from vpolicy_svd.components import Svd
from vpolicy_svd.options import UNet, VaeLatent

from videopolicy.components.text import WordText
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import toy_spaces

SPACES = toy_spaces(32)


def small(**changes: Any) -> Svd:
    options: dict[str, Any] = {
        "image_size": (32, 32),
        "frames": 3,
        "latent": SpaceToDepthLatent(patch=8),
        "text": WordText(width=16, words=4, buckets=64),
        "unet": UNet(channels=(32, 32), heads=(2, 2), attention=(False, True), layers=1, time_ids_width=8),
        "level_max": 80.0,
    }
    return Svd(**options | changes)


def build(**changes: Any) -> SvdBackbone:
    torch.manual_seed(0)
    return small(**changes).build(SPACES)


TINY_VAE = VaeLatent(channels=(32, 32), layers=1)
