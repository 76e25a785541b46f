"""The autoencoder's layers against diffusers' own, in double precision, where rounding is far below any mistake."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKL
from vpolicy_uva import fast


@pytest.fixture(scope="module")
def autoencoders() -> tuple[AutoencoderKL, AutoencoderKL]:
    """diffusers' network, and one of the same weights with our layers."""
    torch.manual_seed(0)
    plain = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=2,
        latent_channels=4,
    ).double()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    ours = copy.deepcopy(plain)
    fast.accelerate(ours)
    assert any(isinstance(module, fast.ResidualLayer) for module in ours.decoder.modules())
    return plain.eval(), ours.eval()


@torch.no_grad()
def test_the_same_numbers(autoencoders):
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    given = images.clone()
    expected, found = (network.encode(images).latent_dist.parameters for network in autoencoders)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    assert torch.equal(images, given)  # nothing of the caller's is changed in place
    latents = expected[:, :4].clone()
    given = latents.clone()
    expected, found = (network.decode(latents).sample for network in autoencoders)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    assert torch.equal(latents, given)


def test_the_same_gradients(autoencoders):
    images = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    for network in autoencoders:
        network.zero_grad()
        network.encode(images).latent_dist.parameters.square().mean().backward()
    theirs = dict(autoencoders[0].named_parameters())
    for name, parameter in autoencoders[1].named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-10, rtol=1e-8)
