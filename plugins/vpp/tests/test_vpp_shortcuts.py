"""What is computed in another order, or not at all because nothing reads it, changes no number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from vpolicy_vpp.components import DitDiffusion
from vpolicy_vpp.decoder import _Contexts
from vpolicy_vpp.formers import PerceiverAttention, build_former
from vpolicy_vpp.maps import FeatureMaps
from vpolicy_vpp.options import Dropout, Linear, VideoFormer

from videopolicy import Branch, FeatureLayout, RowGenerator, StaticStream
from videopolicy.components.text import WordText
from videopolicy.testing import toy_observation, toy_spaces
from videopolicy.types import Window

SPACES = toy_spaces(16)


@pytest.fixture(autouse=True)
def exact() -> Any:
    """Double precision, in which another order of sums shows in the last digits only."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("latents", [3, 20])
def test_absorbed_projections_give_what_projecting_every_token_gives(latents: int) -> None:
    attention = PerceiverAttention(24, heads=2, dim_head=16)
    for norm in (attention.norm_media, attention.norm_latents):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    media, asked = torch.randn(5, 40, 24), torch.randn(5, latents, 24, requires_grad=True)

    normed = attention.norm_latents(asked)
    source = torch.cat([attention.norm_media(media), normed], 1)
    query, key, value = (
        layer(tokens).view(5, -1, 2, 16).transpose(1, 2)
        for layer, tokens in ((attention.to_q, normed), (attention.to_k, source), (attention.to_v, source))
    )
    weights = (query @ key.transpose(2, 3) / 4).softmax(-1)
    expected = attention.to_out((weights @ value).transpose(1, 2).flatten(2))

    found = attention(media, asked)
    close(found, expected)
    wanted = [asked, *attention.parameters()]
    gradients = [torch.autograd.grad(result.square().sum(), wanted) for result in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        close(one, other)


def former(kind: str, **options: Any) -> nn.Module:
    made = Linear(dim=12) if kind == "linear" else VideoFormer(dim=12, depth=2, heads=2, dim_head=8, **options)
    return build_former(made, channels=10, frames=3).eval()


@pytest.mark.parametrize("resize", ["nearest", "linear"])
@pytest.mark.parametrize("pool", [None, (2, 3)])
@pytest.mark.parametrize(
    "built", [("former", {}), ("former", {"input_norm": "layer"}), ("former", {"input_norm": "batch"}), ("linear", {})]
)
def test_maps_of_several_sizes_need_not_be_brought_to_one_grid_first(built: Any, pool: Any, resize: Any) -> None:
    kind, options = built
    maps = FeatureMaps([torch.randn(2, 2, 3, 6, 2, 3), torch.randn(2, 2, 3, 4, 4, 6)], resize, pool)
    features = maps.joined()
    assert features.shape == (2, 3, 2 * (6 if pool else 24), 10)
    grown = functional.interpolate(
        maps.maps[0].flatten(0, 2), (4, 6), mode="nearest" if resize == "nearest" else "bilinear"
    )
    if pool is None:
        close(features[1, 2, 24 + 7, :6], grown.view(2, 2, 3, 6, 4, 6)[1, 1, 2, :, 1, 1])
    module = former(kind, **options)
    close(module.of_maps(maps), module(features))


def test_the_first_linear_layer_sees_the_small_maps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    module = former("former")
    seen = []
    einsum = torch.einsum
    monkeypatch.setattr(torch, "einsum", lambda text, *given: seen.append(given[0].shape[-2:]) or einsum(text, *given))
    module.of_maps(FeatureMaps([torch.randn(1, 1, 3, 6, 2, 2), torch.randn(1, 1, 3, 4, 4, 4)], "nearest"))
    assert seen == [(2, 2), (4, 4)]


def decoder(**options: Any) -> Any:
    return DitDiffusion(
        horizon=4,
        text=WordText(width=16, buckets=64),
        width=32,
        encoder_layers=options.pop("encoder_layers", 2),
        decoder_layers=2,
        heads=2,
        dropout=Dropout(attention=0.0, residual=0.0, feed_forward=0.0),
        initial_deviation=0.5,
        **options,
    ).build(FeatureLayout(8, (("tokens", 9),)), SPACES)


def stream() -> StaticStream:
    observation = toy_observation(SPACES, Window(), batch_size=2)
    return StaticStream(observation, FeatureLayout(8, (("tokens", 9),)), [Branch(1.0, torch.randn(2, 9, 8))])


@pytest.mark.parametrize("encoder_layers", [0, 1, 2])
@pytest.mark.parametrize(("causal", "read"), [(True, 4), (False, 10)])
def test_no_more_of_the_context_is_finished_than_is_read(encoder_layers: int, causal: bool, read: int) -> None:
    made, given = decoder(encoder_layers=encoder_layers, causal_cross_attention=causal).eval(), stream()
    contexts = _Contexts(made, given)
    noisy, level = torch.randn(2, 4, SPACES.actions.dim), torch.tensor([0.3, 2.0])
    memory = contexts.memory(given.branches)
    assert {key.shape[2] for key, _ in memory} == {read}
    whole = made.network.remember(made.network.context(given.branches[0].tokens, contexts.goal, None))
    modulations = made.network.modulations(level)
    close(made.network(noisy, modulations, memory), made.network(noisy, modulations, whole))


def test_in_training_all_tokens_are_finished_as_dropout_draws_for_them() -> None:
    made, given = decoder().train(), stream()
    assert {key.shape[2] for key, _ in _Contexts(made, given).memory(given.branches)} == {10}


def test_levels_of_a_whole_descent_modulate_as_each_by_itself() -> None:
    made, given = decoder().eval(), stream()
    together = made.sample(given, RowGenerator.from_seeds([0, 1]))
    denoise = made.denoise
    made.denoise = lambda noisy, level, branches, contexts, modulations: denoise(noisy, level, branches, contexts)
    close(together, made.sample(given, RowGenerator.from_seeds([0, 1])))
