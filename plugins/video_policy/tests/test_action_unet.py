"""The action U-Net, by what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from vpolicy_video_policy.components import ActionUNet, EveryStep
from vpolicy_video_policy.options import Adapter, SamplingLevels, TrainingLevels

from videopolicy import Batch, Branch, FeatureLayout, Observation, RecipeError, RowGenerator, StaticStream, Window
from videopolicy.components.modular import Modular
from videopolicy.testing import toy_batch, toy_observation, toy_spaces
from videopolicy.testing.toys import ToyBackbone

SPACES = toy_spaces(16)
LAYOUT = FeatureLayout(8, (("frames", 1), ("height", 2), ("width", 2)))


def unet(**options: Any) -> ActionUNet:
    return ActionUNet(**{"horizon": 4, "down_dims": (16, 32), "groups": 4, "step_dim": 16} | options)


def static(rows: int = 2, seed: int = 0) -> StaticStream:
    tokens = torch.randn(rows, 4, 8, generator=torch.Generator().manual_seed(seed))
    return StaticStream(toy_observation(SPACES, Window(), batch_size=rows), LAYOUT, [Branch(1.0, tokens)])


def generators(rows: int = 2) -> RowGenerator:
    return RowGenerator.from_seeds(list(range(rows)))


def small_features() -> EveryStep:
    adapter = Adapter(
        stages=((16, 2),),
        merges=(),
        squeeze=(),
        trunk=((16, 2),),
        blocks=1,
        deep_layers=0,
        halvings=2,
        halving_blocks=1,
        deep_groups=2,
        norm_groups=4,
    )
    return EveryStep(backbone=ToyBackbone(), taps=("hidden",), adapter=adapter, guidance=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"horizon": 10, "down_dims": (16, 16, 16)},
            "horizon 10 must be a multiple of 4: 3 down_dims halve it 2 times",
        ),
        ({"down_dims": (16, 18)}, r"down_dims \[16, 18\] must be multiples of groups 4"),
        ({"kernel": 4}, "kernel 4 must be odd"),
        ({"sampling_levels": {"lowest": 9, "highest": 1}}, "lowest 9.0 must be below highest 1.0"),
    ],
)
def test_a_decoder_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        unet(**options)


def test_state_is_asked_for_where_there_is_none() -> None:
    without = SPACES.model_copy(update={"state": None})
    assert unet(proprioception=True).check(LAYOUT, SPACES) == []
    assert "no state" in unet(proprioception=True).check(LAYOUT, without)[0]
    blind = static()
    blind.observation = Observation(blind.observation.images, blind.observation.instructions)
    with pytest.raises(RecipeError, match="the observation has no state"):
        unet(proprioception=True).build(LAYOUT, SPACES).sample(blind, generators())


@pytest.mark.parametrize("proprioception", [True, False])
def test_state_reaches_the_actions_only_when_asked_for(proprioception: bool) -> None:
    decoder = unet(proprioception=proprioception).build(LAYOUT, SPACES).eval()
    stream, moved = static(), static()
    assert moved.observation.state is not None
    moved.observation.state = moved.observation.state + 1
    one, other = (decoder.sample(each, generators()) for each in (stream, moved))
    assert torch.equal(one, other) != proprioception


def test_masked_actions_reach_nothing_even_as_nan() -> None:
    decoder = unet().build(LAYOUT, SPACES)
    batch = toy_batch(SPACES, Window(horizon=4))
    assert batch.actions is not None and batch.action_mask is not None and not batch.action_mask.all()
    losses, gradients = [], []
    for filling in (0.0, float("nan")):
        torch.manual_seed(0)
        decoder.zero_grad()
        loss = decoder.loss(
            static(), torch.where(batch.action_mask[..., None], batch.actions, filling), batch.action_mask
        )
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.stack([parameter.grad.norm() for parameter in decoder.parameters()]))
    assert losses[0] == losses[1] and torch.equal(*gradients)
    none = torch.zeros_like(batch.action_mask)
    assert decoder.loss(static(), torch.full_like(batch.actions, float("nan")), none).item() == 0.0


def test_the_level_is_embedded_by_whoever_has_an_embedding() -> None:
    given = FeatureLayout(8, LAYOUT.axes, step_embedding=24)
    network = unet().build(given, SPACES).network
    assert network.sinusoid is None and network.diffusion_step_encoder[1].in_features == 24
    own = unet().build(LAYOUT, SPACES).eval()
    chunk, told = torch.randn(2, 4, SPACES.actions.dim), torch.randn(2, 32)
    low, high = (own.network(chunk, torch.full((2,), level), told) for level in (0.01, 100.0))
    assert (low - high).abs().max() > 1e-3


def test_several_noises_share_the_features_of_a_level() -> None:
    torch.manual_seed(0)
    decoder = unet(noise_samples=3, proprioception=True).build(LAYOUT, SPACES)
    rows = []
    decoder.network.register_forward_hook(lambda module, given, output: rows.append(len(output)))
    asked = static()
    levels = []
    asked.at = lambda level: levels.append(level) or asked.branches  # type: ignore[method-assign]
    decoder.loss(asked, torch.zeros(2, 4, SPACES.actions.dim), torch.ones(2, 4, dtype=torch.bool))
    assert len(levels) == 1 and rows == [6]


def fit(
    losses_at: Callable[[], Tensor], parameters: list[nn.Parameter], steps: int, rate: float = 6e-3
) -> tuple[float, float]:
    """Mean loss over the first and over the last ten steps."""
    optimizer, seen = torch.optim.AdamW(parameters, lr=rate), []
    for step in range(steps):
        torch.manual_seed(step)
        loss = losses_at()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    return sum(seen[:10]) / 10, sum(seen[-10:]) / 10


def test_it_learns_actions_that_static_features_tell() -> None:
    """Four kinds of features ask for four chunks; sampling gives them back."""
    torch.manual_seed(0)
    levels = {"training_levels": TrainingLevels(mean=0.0), "sampling_levels": SamplingLevels(steps=10, highest=80)}
    decoder = unet(down_dims=(64, 64), **levels).build(LAYOUT, SPACES)
    tokens = static(rows=4).branches[0].tokens
    stream = StaticStream(static(rows=64).observation, LAYOUT, [Branch(1.0, tokens.repeat(16, 1, 1))])
    actions = torch.rand(4, 4, SPACES.actions.dim) * 2 - 1
    chunks, mask = actions.repeat(16, 1, 1), torch.ones(64, 4, dtype=torch.bool)
    first, last = fit(lambda: decoder.loss(stream, chunks, mask), list(decoder.parameters()), 120)
    assert last < 0.4 * first
    sampled = decoder.eval().sample(static(rows=4), generators(4))
    assert (sampled - actions).abs().mean() < 0.15


@pytest.mark.slow
def test_video_and_actions_are_learned_together() -> None:
    """Two windows, eight times over; the video model learns its own task, and the actions come out of its features."""
    torch.manual_seed(0)
    levels = {"training_levels": TrainingLevels(mean=0.0), "sampling_levels": SamplingLevels(steps=8, highest=10)}
    decoder = unet(down_dims=(64, 64), noise_samples=4, **levels)
    policy = Modular(extractor=small_features(), decoder=decoder).build(SPACES)
    two = toy_batch(SPACES, policy.window)
    assert two.actions is not None
    batch = Batch(
        Observation({name: view.repeat(8, 1, 1, 1, 1) for name, view in two.observation.images.items()}, ["go"] * 16),
        {name: view.repeat(8, 1, 1, 1, 1) for name, view in two.future.items()},
        actions=two.actions.repeat(8, 1, 1),
        action_mask=torch.ones(16, 4, dtype=torch.bool),
    )
    of_video, of_actions = [], []

    def total() -> Tensor:
        losses = policy.loss(batch)
        of_video.append(losses["video"].item())
        of_actions.append(losses["action"].item())
        return losses["video"] + losses["action"]

    fit(total, list(policy.parameters()), 120, rate=3e-3)
    for seen in (of_video, of_actions):
        assert sum(seen[-10:]) < 0.5 * sum(seen[:10])
    sampled = policy.eval().act(two.observation, generators())
    assert (sampled - two.actions).abs().mean() < 0.2
