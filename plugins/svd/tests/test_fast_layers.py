"""The network's layers against diffusers' own: equal numbers, equal gradients. In double precision, where rounding is
far below any mistake."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from vpolicy_svd import fast

CLIPS, FRAMES, SIZE, TEXT = 2, 5, 8, 12


@pytest.fixture(scope="module")
def networks() -> tuple[UNetSpatioTemporalConditionModel, UNetSpatioTemporalConditionModel]:
    """diffusers' network, and one of the same weights with our layers."""
    torch.manual_seed(0)
    made = []
    for _ in range(2):
        network = UNetSpatioTemporalConditionModel(
            sample_size=SIZE,
            block_out_channels=(32, 64),
            num_attention_heads=(2, 4),
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            cross_attention_dim=TEXT,
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24,
            num_frames=FRAMES,
        )
        made.append(network.eval().double())
    plain, ours = made
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    ours.load_state_dict(plain.state_dict())
    fast.accelerate(ours)
    return plain, ours


def inputs(tokens: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    shapes = (CLIPS, FRAMES, 8, SIZE, SIZE), (CLIPS,), (CLIPS, tokens, TEXT), (CLIPS, 3)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


@pytest.mark.parametrize("tokens", [1, 4], ids=["one text token", "four text tokens"])
@pytest.mark.parametrize("block", [2**9, 2**18])
@torch.no_grad()
def test_the_same_numbers(networks, tokens, block, monkeypatch):
    monkeypatch.setattr(fast, "BLOCK_VALUES", block)
    given = inputs(tokens)
    expected, found = (network(*given, return_dict=False)[0] for network in networks)
    assert expected.std() > 0.1 and found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_same_gradients(networks, checkpointing):
    gradients = []
    for network in networks:
        network.zero_grad()
        network.train()
        if checkpointing:
            network.enable_gradient_checkpointing()
        network(*inputs(1), return_dict=False)[0].square().mean().backward()
        network.disable_gradient_checkpointing()
        network.eval()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    expected, found = gradients
    assert all(gradient is not None for gradient in found.values()), "a weight got no gradient, not even zeros"
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-9, rtol=1e-7, msg=name)


def test_inputs_and_readable_maps_are_left_alone(networks):
    """Sums are made in place; what is read out of the network on the way must not change behind it."""
    _, ours = networks
    given = inputs(1)
    copies, seen = [one.clone() for one in given], []
    handle = ours.up_blocks[1].attentions[1].register_forward_hook(lambda m, i, o: seen.extend([o[0], o[0].clone()]))
    layers = [layer for block in ours.down_blocks for layer in block.resnets]
    handles = [handle] + [layer.register_forward_hook(lambda m, i, o: seen.extend([o, o.clone()])) for layer in layers]
    with torch.no_grad():
        ours(*given, return_dict=False)
    for handle in handles:
        handle.remove()
    assert all(torch.equal(one, copy) for one, copy in zip(given, copies, strict=True))
    assert len(seen) == 2 * len(handles)
    assert all(torch.equal(kept, then) for kept, then in zip(seen[::2], seen[1::2], strict=True))


def test_weights_keep_their_names_and_shapes(networks):
    plain, ours = networks
    assert {name: value.shape for name, value in plain.state_dict().items()} == {
        name: value.shape for name, value in ours.state_dict().items()
    }


@pytest.mark.parametrize("learning", [False, True])
def test_mixed_precision_stays_near(networks, learning):
    plain, ours = (copy.deepcopy(network).float() for network in networks)
    given = tuple(one.float() for one in inputs(1))
    with torch.set_grad_enabled(learning):
        expected = plain(*given, return_dict=False)[0]
        with torch.autocast("cpu", torch.bfloat16):
            theirs, found = (network(*given, return_dict=False)[0] for network in (plain, ours))
    rounding = (theirs.float() - expected).abs().mean()
    assert 0 < (found.float() - expected).abs().mean() < 1.5 * rounding
