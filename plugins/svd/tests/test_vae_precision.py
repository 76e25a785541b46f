"""The autoencoder's numbers in mixed-precision training."""

from __future__ import annotations

import pytest
import torch
from vpolicy_svd.latents import Vae
from vpolicy_svd.options import VaeLatent


@pytest.mark.parametrize("encoder", ["shared", "own"])
def test_it_computes_in_single_precision_unless_asked_otherwise(encoder: str) -> None:
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    for precision, exact in (("float32", True), ("autocast", False)):
        torch.manual_seed(0)
        options = VaeLatent(channels=(32, 32), layers=1, condition_encoder=encoder, precision=precision)
        vae = Vae(options, None)
        plain = [vae.encode(images), vae.condition(images), vae.decode(vae.encode(images), 2)]
        with torch.autocast("cpu", torch.bfloat16):
            mixed = [vae.encode(images), vae.condition(images), vae.decode(plain[0], 2)]
            later = vae.decode(plain[0].bfloat16(), 2)  # what the network gives under autocast
        for found, expected in zip(mixed, plain, strict=True):
            assert torch.equal(found, expected) == exact
            torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)
        assert (later.dtype == torch.float32) == exact


def test_a_model_whose_weights_are_half_stays_half() -> None:
    vae = Vae(VaeLatent(channels=(32, 32), layers=1), None).bfloat16()
    assert vae.encode(torch.rand(1, 3, 16, 16).bfloat16()).dtype == torch.bfloat16
