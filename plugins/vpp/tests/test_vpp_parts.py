"""Features after one step and the diffusion transformer, by what they do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from vpolicy_vpp.components import DitDiffusion, OneStep
from vpolicy_vpp.decoder import sample_levels
from vpolicy_vpp.options import Dropout, Linear, SamplingLevels, TrainingLevels, VideoFormer

from videopolicy import Branch, FeatureLayout, FeatureStream, Observation, RecipeError, RowGenerator, StaticStream
from videopolicy.components.modular import Modular
from videopolicy.components.text import WordText
from videopolicy.testing import toy_batch, toy_observation, toy_spaces
from videopolicy.testing.toys import ToyBackbone
from videopolicy.types import Window

SPACES = toy_spaces(16)
LAYOUT = FeatureLayout(8, (("tokens", 5),))


def one_step(**options: Any) -> OneStep:
    defaults: dict[str, Any] = {
        "backbone": ToyBackbone(),
        "taps": ("hidden",),
        "former": VideoFormer(dim=16, depth=1, heads=2, dim_head=8, latents_per_frame=3),
    }
    return OneStep(**defaults | options)


def dit(**options: Any) -> DitDiffusion:
    defaults: dict[str, Any] = {
        "horizon": 4,
        "text": WordText(width=16, buckets=64),
        "width": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "heads": 2,
        "dropout": Dropout(attention=0.0, residual=0.0, feed_forward=0.0),
    }
    return DitDiffusion(**defaults | options)


def static(rows: int = 2, seed: int = 0) -> StaticStream:
    tokens = torch.randn(rows, 5, 8, generator=torch.Generator().manual_seed(seed))
    return StaticStream(toy_observation(SPACES, Window(), batch_size=rows), LAYOUT, [Branch(1.0, tokens)])


def test_the_parts_have_the_papers_sizes() -> None:
    """17.71 M and 22.60 M in the official code, whose action head also keeps parameters that it never reads."""
    with torch.device("meta"):
        former = VideoFormer()
        extractor = OneStep(backbone=ToyBackbone(width=2560), taps=("hidden",), former=former).build(SPACES)
        decoder = DitDiffusion().build(FeatureLayout(384), SPACES)
    count = sum(parameter.numel() for parameter in extractor.former.parameters())
    clip_frames = 16 - 3  # the toy's clip has 3 frames, and every frame has 14 latents and a position
    assert count + clip_frames * 15 * 384 == pytest.approx(17.71e6, rel=1e-3)
    unread = 235 * 384 + (513 * 768 + 769 * 384) + (9 * 768 + 769 * 384)  # pos_emb, goal_emb, proprio_emb
    fewer_actions = 3 * (384 + 385)  # 4 here, 7 on CALVIN
    network = sum(parameter.numel() for parameter in decoder.network.parameters())
    assert network + unread + fewer_actions == pytest.approx(22.60e6, rel=5e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taps": ("hidden", "up7")}, "backbone 'toy' has no tap up7; it has hidden"),
        ({"frames": (0, 3)}, r"frames \[0, 3\] must be among the clip's 0 to 2"),
        ({"pool": (5, 4)}, r"pool \[5, 4\] must not exceed the grid 4 x 4 of 'hidden'"),
        ({"denoising_steps": 21}, "denoising_steps 21 exceed schedule_steps 20"),
        ({"former": {"type": "video-former", "dim": 15}}, "dim 15 is not a multiple of heads 8"),
        ({"former": {"type": "perceiver"}}, "'video-former', 'video-former-2d', 'linear'"),
    ],
)
def test_features_that_do_not_fit_are_refused_before_anything_is_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        one_step(**options)


def test_a_decoder_that_does_not_fit_is_refused() -> None:
    without_state = SPACES.model_copy(update={"state": None})
    assert dit(proprioception=True).check(LAYOUT, SPACES) == []
    assert "no state" in dit(proprioception=True).check(LAYOUT, without_state)[0]
    with pytest.raises(ValidationError, match="set action_positions: true"):
        dit(causal_self_attention=False)
    with pytest.raises(ValidationError, match="a multiple of heads 3"):
        dit(heads=3)


def test_views_frames_and_pooling_unfold_as_the_layout_says() -> None:
    component = one_step(former=Linear(dim=4), frames=(0, 2), pool=(2, 1))
    layout = component.layout(SPACES)
    assert layout.axes == (("frames", 2), ("views", 2), ("height", 2), ("width", 1))
    extractor = component.build(SPACES).eval()
    features = extractor.frozen_features(toy_observation(SPACES, extractor.window), RowGenerator.from_seeds([0, 1]))
    assert features.shape == (2, 2, 4, 8)
    full = one_step(former=Linear(dim=4)).build(SPACES).eval()
    full.load_state_dict(extractor.state_dict())
    whole = full.frozen_features(toy_observation(SPACES, full.window), RowGenerator.from_seeds([0, 1]))
    expected = whole.unflatten(2, (2, 4, 4))[:, [0, 2]].unflatten(3, (2, 2)).mean(dim=(4, 5)).flatten(2, 3)
    torch.testing.assert_close(features, expected)


def test_random_noise_is_drawn_anew_and_zero_noise_is_not() -> None:
    for noise, same in (("random", False), ("zero", True)):
        extractor = one_step(noise=noise).build(SPACES)
        observation = toy_observation(SPACES, extractor.window)
        one, other = (extractor.frozen_features(observation, None) for _ in range(2))
        assert torch.equal(one, other) == same


def test_cached_features_in_half_precision_take_the_place_of_the_video_model() -> None:
    extractor = one_step().build(SPACES).eval()
    observation = toy_observation(SPACES, extractor.window)
    direct = extractor.stream(observation, generator=RowGenerator.from_seeds([0, 1])).branches[0].tokens
    observation.features = extractor.frozen_features(observation, RowGenerator.from_seeds([0, 1])).half()
    extractor.backbone = None  # type: ignore[assignment]  # must not be asked
    cached = extractor.stream(observation).branches[0].tokens
    torch.testing.assert_close(cached, direct, atol=0.02, rtol=0.02)


def test_a_frozen_video_model_stays_in_evaluation_mode_and_out_of_the_graph() -> None:
    extractor = one_step().build(SPACES).train()
    assert extractor.former.training and not extractor.backbone.training
    tokens = extractor.stream(toy_observation(SPACES, extractor.window)).branches[0].tokens
    tokens.square().sum().backward()
    assert all(parameter.grad is None for parameter in extractor.backbone.parameters())
    trained = one_step(frozen=False).build(SPACES).train()
    assert trained.backbone.training and not trained.features_are_frozen
    trained.stream(toy_observation(SPACES, trained.window)).branches[0].tokens.square().sum().backward()
    assert any(parameter.grad is not None for parameter in trained.backbone.parameters())


@pytest.mark.parametrize("quirks", [True, False])
def test_it_learns_actions_that_the_features_tell(quirks: bool) -> None:
    """Four kinds of features ask for four chunks; sampling gives them back."""
    torch.manual_seed(0)
    options: dict[str, Any] = {}
    if not quirks:
        options = {
            "causal_self_attention": False,
            "causal_cross_attention": False,
            "action_positions": True,
            "adaptive_norm": "adaln-zero",
        }
    decoder = dit(noise_samples=4, **options).build(LAYOUT, SPACES)
    stream = static(rows=4)
    actions = torch.rand(4, 4, 4) * 2 - 1
    mask = torch.ones(4, 4, dtype=torch.bool)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    losses = []
    for step in range(150):
        torch.manual_seed(step)
        loss = decoder.loss(stream, actions, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.25 * sum(losses[:10])
    sampled = decoder.eval().sample(stream, RowGenerator.from_seeds([0, 1, 2, 3]))
    assert (sampled - actions).abs().mean() < 0.15


def test_masked_actions_reach_nothing_even_as_nan() -> None:
    decoder = dit().build(LAYOUT, SPACES)
    batch = toy_batch(SPACES, Window(horizon=4))
    losses = []
    for filling in (0.0, float("nan")):
        torch.manual_seed(0)
        actions = torch.where(batch.action_mask[..., None], batch.actions, filling)
        losses.append(decoder.loss(static(), actions, batch.action_mask).item())
    assert losses[0] == losses[1]
    torch.manual_seed(0)
    assert decoder.loss(static(), batch.actions, torch.ones(2, 4, dtype=torch.bool)).item() != losses[0]


class LevelStream(FeatureStream):
    """Features that change with the level, in two branches."""

    def __init__(self, scale: float) -> None:
        super().__init__(static().observation, LAYOUT)
        self.tokens, self.scale = static().branches[0].tokens, scale
        self.seen: list[float] = []

    def at(self, level: Tensor) -> list[Branch]:
        told = self.tokens * level.view(-1, 1, 1)
        return [Branch(1 - self.scale, torch.zeros_like(told)), Branch(self.scale, told)]

    def descend(self, levels: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Branch]]]:
        for level, following in pairwise(levels):
            self.seen.append(float(level))
            yield level, following, self.at(level.expand(len(self.observation)))


def test_features_that_change_with_the_level_are_read_at_every_level() -> None:
    decoder = dit(sampling_levels=SamplingLevels(steps=4, highest=8.0)).build(LAYOUT, SPACES).eval()
    encoded = []
    original = decoder.network.context
    decoder.network.context = lambda *given: encoded.append(1) or original(*given)  # type: ignore[method-assign]
    stream = LevelStream(scale=1.5)
    guided = decoder.sample(stream, RowGenerator.from_seeds([0, 1]))
    assert stream.seen[0] == pytest.approx(8.0) and len(stream.seen) == 4
    assert len(encoded) == 4 * 2
    plain = decoder.sample(LevelStream(scale=1.0), RowGenerator.from_seeds([0, 1]))
    assert (guided - plain).abs().max() > 1e-4
    encoded.clear()
    decoder.sample(static(), RowGenerator.from_seeds([0, 1]))
    assert len(encoded) == 1, "a context that does not change is encoded once for all levels"


def test_guidance_is_the_weighted_sum_of_predictions() -> None:
    decoder = dit(sampling_levels=SamplingLevels(steps=1)).build(LAYOUT, SPACES).eval()
    one, other = static(seed=0), static(seed=1)
    both = StaticStream(
        one.observation, LAYOUT, [Branch(-0.5, one.branches[0].tokens), Branch(1.5, other.branches[0].tokens)]
    )
    first, second, guided = (decoder.sample(s, RowGenerator.from_seeds([0, 1])) for s in (one, other, both))
    torch.testing.assert_close(guided, 1.5 * second - 0.5 * first, atol=1e-4, rtol=1e-4)


def test_guidance_may_change_over_the_chunk() -> None:
    decoder = dit(sampling_levels=SamplingLevels(steps=1)).build(LAYOUT, SPACES).eval()
    one, other = static(seed=0), static(seed=1)
    rising = [Branch(0.0, one.branches[0].tokens, last_weight=-1.5), Branch(1.0, other.branches[0].tokens, None, 2.5)]
    both = StaticStream(one.observation, LAYOUT, rising)
    first, second, guided = (decoder.sample(s, RowGenerator.from_seeds([0, 1])) for s in (one, other, both))
    scale = torch.linspace(1, 2.5, guided.shape[1])[:, None]
    torch.testing.assert_close(guided, scale * second + (1 - scale) * first, atol=1e-4, rtol=1e-4)


def test_causal_attention_reads_only_the_first_context_tokens() -> None:
    """The official quirk: action i sees context tokens 0 to i and no more."""
    network = dit().build(LAYOUT, SPACES).eval().network
    actions, level = torch.randn(1, 4, 4), torch.ones(1)
    context = torch.randn(1, 6, 32)
    changed = context.clone()
    changed[:, 2] += 1
    modulations = network.modulations(level)
    moved = network(actions, modulations, network.remember(changed))
    moved = moved - network(actions, modulations, network.remember(context))
    assert moved[0, :2].abs().max() == 0 and moved[0, 2:].abs().amin(dim=-1).min() > 0


def test_state_reaches_the_actions_only_when_asked_for() -> None:
    for proprioception in (True, False):
        torch.manual_seed(0)
        decoder = dit(proprioception=proprioception).build(LAYOUT, SPACES).eval()
        stream, moved = static(), static()
        moved.observation.state = moved.observation.state + 1
        one, other = (decoder.sample(s, RowGenerator.from_seeds([0, 1])) for s in (stream, moved))
        assert torch.equal(one, other) != proprioception
    decoder = dit(proprioception=True).build(LAYOUT, SPACES)
    blind = static()
    blind.observation = Observation(blind.observation.images, blind.observation.instructions)
    with pytest.raises(RecipeError, match="the observation has no state"):
        decoder.sample(blind, RowGenerator.from_seeds([0, 1]))


def test_levels_follow_the_truncated_log_logistic_density() -> None:
    levels = sample_levels(TrainingLevels(), (5,), torch.tensor([0.01, 0.1, 0.5, 0.9, 0.99], dtype=torch.float64))
    torch.testing.assert_close(
        levels, torch.tensor([0.05, 0.167, 0.5, 1.5, 5.0], dtype=torch.float64), rtol=0.02, atol=0
    )
    narrow = sample_levels(TrainingLevels(lowest=0.3, highest=0.4), (1000,))
    assert narrow.min() >= 0.3 and narrow.max() <= 0.4


def test_the_whole_policy_acts_on_sentences_it_never_read() -> None:
    policy = Modular(extractor=one_step(), decoder=dit()).build(SPACES).eval()
    observation = toy_observation(SPACES, policy.window)
    observation.instructions = ["hoist the flibbertigibbet, kindly!", ""]
    chunk = policy.act(observation, RowGenerator.from_seeds([0, 1]))
    assert chunk.shape == (2, 4, 4) and torch.isfinite(chunk).all()
