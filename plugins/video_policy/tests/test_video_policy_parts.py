"""Features of every denoising step and the action U-Net, by what they do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from vpolicy_video_policy.action_unet import ConditionalUNet
from vpolicy_video_policy.adapter import CnnAdapter
from vpolicy_video_policy.components import ActionUNet, Adapter, EveryStep, SamplingLevels, TrainingLevels

from videopolicy import BackboneComponent, Branch, FeatureLayout, Observation, RecipeError, RowGenerator, StaticStream
from videopolicy.modular import Modular
from videopolicy.testing import toy_batch, toy_observation, toy_spaces
from videopolicy.testing.toys import ToyBackbone
from videopolicy.types import Batch, Window

SPACES = toy_spaces(16)
LAYOUT = FeatureLayout(8, (("frames", 1), ("height", 2), ("width", 2)))
LEVELS = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])
SMALL: dict[str, Any] = {
    "blocks": 1,
    "squeeze": (),
    "trunk": ((16, 2),),
    "deep_layers": 0,
    "halvings": 2,
    "halving_blocks": 1,
    "deep_groups": 2,
    "norm_groups": 4,
}


def toy(**options: Any) -> EveryStep:
    adapter = Adapter(stages=((16, 2),), merges=(), **SMALL)
    return EveryStep(**{"backbone": ToyBackbone(), "taps": ("hidden",), "adapter": adapter} | options)


def two_taps(backbone: BackboneComponent, **options: Any) -> EveryStep:
    adapter = Adapter(stages=((16, 2), (16, 2)), merges=((8, 2),), **SMALL)
    return EveryStep(backbone=backbone, taps=("up1.0", "down0.downsample"), adapter=adapter, **options)


def unet(**options: Any) -> ActionUNet:
    return ActionUNet(**{"horizon": 4, "down_dims": (16, 32), "groups": 4, "step_dim": 16} | options)


def static(rows: int = 2, seed: int = 0) -> StaticStream:
    tokens = torch.randn(rows, 4, 8, generator=torch.Generator().manual_seed(seed))
    return StaticStream(toy_observation(SPACES, Window(), batch_size=rows), LAYOUT, [Branch(1.0, tokens)])


def generators(rows: int = 2) -> RowGenerator:
    return RowGenerator.from_seeds(list(range(rows)))


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def official_size() -> tuple[CnnAdapter, ConditionalUNet]:
    with torch.device("meta"):
        adapter = CnnAdapter(Adapter(), 3, (320, 640, 1280, 1280, 1280), (2, 2, 2, 1, 1), 1280)
        return adapter, ConditionalUNet(ActionUNet(), 7, 420 * 4 * 4, 1280)


def test_the_official_sizes() -> None:
    adapter, network = official_size()
    assert size(adapter) == 205_812_616
    assert size(network) == 161_359_111


def test_the_official_names_and_shapes() -> None:
    """Every tensor of the released checkpoint has its place, and no place is left."""
    from vpolicy_video_policy.importing.names import action_unet_names, adapter_names

    root = Path(os.environ.get("VPOLICY_SHARED", Path(__file__).resolve().parents[4] / "shared"))
    path = root / "oracles" / "video_policy_released_keys.json"
    if not path.is_file():
        pytest.skip(f"no names of the released checkpoint at {path}; set VPOLICY_SHARED to their folder")
    shapes = json.loads(path.read_text(encoding="utf-8"))
    families = zip(
        ("vision_encoder.", "pose_pred_net."), (adapter_names, action_unet_names), official_size(), strict=True
    )
    for prefix, names, module in families:
        released = {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}
        mapping = names(released)
        here = {name: list(value.shape) for name, value in module.state_dict().items()}
        assert {mapping[key]: shape for key, shape in released.items()} == here


def test_the_grid_that_comes_out_is_that_of_the_last_tap(views_in_one_clip: BackboneComponent) -> None:
    component = two_taps(views_in_one_clip)
    assert component.strides == (2, 1)
    layout = component.layout(SPACES)
    assert layout.axes == (("frames", 1), ("height", 2), ("width", 2)) and layout.step_embedding == 4 * 32
    assert [Adapter().frames_left(frames) for frames in (8, 12, 1, 25)] == [1, 2, 1, 4]
    with torch.device("meta"):
        wide = CnnAdapter(Adapter(), 2, (320, 640, 1280, 1280, 1280), (2, 2, 2, 1, 1), 1280)
        maps = [torch.empty(1, 2, 12, c, 32 // s, 32 // s) for c, s in zip(*official_taps(), strict=True)]
        assert wide(maps, torch.empty(1, 1280)).shape == (1, 2 * 4 * 4, 420)


def official_taps() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Widths and how much coarser than the latents."""
    return (320, 640, 1280, 1280, 1280), (1, 2, 4, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taps": ("hidden", "up7")}, "backbone 'toy' has no tap up7; it has hidden"),
        ({"taps": ("hidden", "hidden")}, "2 taps need as many adapter.stages, not 1"),
        ({"adapter": {}}, "1 taps need as many adapter.stages, not 5"),
        ({"adapter": {"stages": [[16, 2]]}}, "1 stages need 0 merges .* not 4"),
        ({"adapter": {"stages": [[20, 2]], "merges": []}}, "a layer of 20 channels must be a multiple of 8"),
        ({"adapter": {"norm_groups": 11}}, "last 420 channels are not a multiple of norm_groups 11"),
    ],
)
def test_features_that_do_not_fit_are_refused_before_anything_is_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        toy(**options)


def test_taps_must_go_from_fine_to_coarse(views_in_one_clip: BackboneComponent) -> None:
    adapter = Adapter(stages=((16, 2), (16, 2)), merges=((8, 2),), **SMALL)
    with pytest.raises(ValidationError, match=r"no stride leads from the 2 x 2 of 'down0\.downsample' to the 4 x 4"):
        EveryStep(backbone=views_in_one_clip, taps=("down0.downsample", "up1.0"), adapter=adapter)


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


def losses_of(component: EveryStep, decoder: ActionUNet, seed: int = 0) -> tuple[Any, dict[str, Tensor]]:
    torch.manual_seed(seed)
    policy = Modular(extractor=component, decoder=decoder).build(SPACES)
    losses = policy.loss(toy_batch(SPACES, policy.window))
    return policy, losses


@pytest.mark.parametrize(
    ("options", "of_video", "of_actions"),
    [({}, True, True), ({"stop_gradient": True}, True, False), ({"frozen": True}, False, False)],
    ids=["joint", "stop-gradient", "frozen"],
)
def test_who_teaches_the_video_model(
    views_in_one_clip: BackboneComponent, options: dict[str, bool], of_video: bool, of_actions: bool
) -> None:
    policy, losses = losses_of(two_taps(views_in_one_clip, **options), unet())
    assert ("video" in losses) == of_video
    network = policy.extractor.backbone.unet

    def moved(loss: Tensor) -> dict[str, bool]:
        policy.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)
        assert any(parameter.grad is not None for parameter in policy.extractor.adapter.parameters()) == (
            loss is losses["action"]
        )
        return {
            name: parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
            for name, parameter in network.named_parameters()
        }

    from_actions = moved(losses["action"])
    assert any(from_actions.values()) == of_actions
    assert from_actions["time_embedding.linear_1.weight"] == of_actions
    assert not from_actions["conv_out.weight"], "nothing that is read lies behind the last tap"
    if of_video:
        assert all(moved(losses["video"])[name] for name in ("conv_in.weight", "conv_out.weight"))


def test_parts_learn_at_the_official_rates(views_in_one_clip: BackboneComponent) -> None:
    joint = two_taps(views_in_one_clip).build(SPACES)
    groups = list(joint.parameter_groups())
    assert [group.get("lr_scale", 1.0) for group in groups] == [1.0, 0.2]
    assert sum(parameter.numel() for parameter in groups[1]["params"]) == size(joint.backbone)
    frozen = two_taps(views_in_one_clip, frozen=True).build(SPACES)
    assert [len(group["params"]) for group in frozen.parameter_groups()] == [len(list(frozen.adapter.parameters()))]
    assert frozen.train().adapter.training and not frozen.backbone.training


def test_weights_of_the_losses_scale_them(views_in_one_clip: BackboneComponent) -> None:
    _, official = losses_of(two_taps(views_in_one_clip), unet())
    _, other = losses_of(two_taps(views_in_one_clip, video_weight=1.0), unet(action_weight=1.0))
    torch.testing.assert_close(official["video"] * 57 / 25, other["video"])
    torch.testing.assert_close(official["action"] * 57 / 32, other["action"])


def test_the_video_loss_is_the_mean_over_all_levels_that_were_asked_for() -> None:
    extractor = toy().build(SPACES)
    batch = toy_batch(SPACES, extractor.window)
    seen = []
    for times in (1, 2):
        torch.manual_seed(0)
        stream = extractor.stream(batch.observation, batch)
        for level in ([0.5, 2.0], [4.0, 1.0])[:times]:
            stream.at(torch.tensor(level))
        seen.append(stream.losses["video"])
    torch.manual_seed(0)
    clip = extractor.backbone.training_clip(batch)
    errors = []
    for level in (torch.tensor([0.5, 2.0]), torch.tensor([4.0, 1.0])):
        noisy = clip.latents + level.view(-1, 1, 1, 1, 1, 1) * torch.randn(clip.latents.shape)
        prediction = extractor.backbone.denoise(noisy, level, clip.condition).prediction
        assert prediction is not None
        errors.append(extractor.backbone.error(prediction, clip, level))
    torch.testing.assert_close(seen[0], errors[0] * 25 / 57)
    torch.testing.assert_close(seen[1], (errors[0] + errors[1]) / 2 * 25 / 57)


def counting(extractor: Any) -> list[tuple[int, float, bool]]:
    """Rows, level and whether a prediction was asked for, of every forward of the video model from now on."""
    calls: list[tuple[int, float, bool]] = []
    forward = extractor.backbone.denoise

    def denoise(noisy: Tensor, level: Tensor, condition: Any, taps: Any = (), predict: bool = True) -> Any:
        calls.append((len(noisy), float(level[0]), predict))
        return forward(noisy, level, condition, taps, predict)

    extractor.backbone.denoise = denoise
    return calls


@torch.no_grad()
def test_acting_computes_only_what_it_needs() -> None:
    """Both branches of guidance in one batch, no prediction at the last level, no decoding ever."""
    for guidance, rows in ((2.0, 4), (1.0, 2)):
        extractor = toy(guidance=guidance).build(SPACES)
        calls = counting(extractor)
        extractor.backbone.decode = None  # must not be asked
        stream = extractor.stream(toy_observation(SPACES, extractor.window), None, generators())
        steps = [[branch.weight for branch in branches] for _, _, branches in stream.descend(LEVELS)]
        assert calls == [(rows, 8.0, True), (rows, 4.0, True), (rows, 2.0, True), (rows, 1.0, False)]
        assert steps == [[1 - guidance, guidance] if guidance != 1 else [1.0]] * 4


@torch.no_grad()
def test_below_the_lowest_level_the_features_stay(views_in_one_clip: BackboneComponent) -> None:
    runs: dict[float, tuple[list[float], list[list[Branch]]]] = {}
    for lowest in (0.0, 3.0, 8.0):
        torch.manual_seed(0)
        extractor = two_taps(views_in_one_clip, guidance=1, lowest_level=lowest).build(SPACES).eval()
        calls = counting(extractor)
        stream = extractor.stream(toy_observation(SPACES, extractor.window), None, generators())
        branches = [branches for _, _, branches in stream.descend(LEVELS)]
        runs[lowest] = [level for _, level, _ in calls], branches
        assert not calls[-1][2], "nobody reads the video behind the last features"
    assert runs[0.0][0] == [8.0, 4.0, 2.0, 1.0]
    assert runs[3.0][0] == [8.0, 4.0, 3.0]
    assert runs[8.0][0] == [8.0]
    tokens = {lowest: [branches[0].tokens for branches in steps] for lowest, (_, steps) in runs.items()}
    assert [one is other for one, other in pairwise(tokens[3.0])] == [False, False, True]
    assert all(one is other for one, other in pairwise(tokens[8.0]))
    torch.testing.assert_close(tokens[3.0][1], tokens[0.0][1])
    embeddings = [branches[0].step_embedding for branches in runs[8.0][1]]
    assert all(not torch.equal(one, other) for one, other in pairwise(embeddings)), "the actions' own level goes on"


def test_training_noises_the_video_no_less_than_the_lowest_level() -> None:
    extractor = toy(lowest_level=3.0).build(SPACES)
    batch = toy_batch(SPACES, extractor.window)
    calls = counting(extractor)
    extractor.stream(batch.observation, batch).at(torch.tensor([0.1, 1.0]))
    extractor.stream(batch.observation, batch).at(torch.tensor([5.0, 9.0]))
    assert [level for _, level, _ in calls] == [3.0, 5.0]


@torch.no_grad()
def test_guidance_moves_the_video_too() -> None:
    """At scale s the clean estimate is ``(1 - s)`` unconditional plus ``s`` conditional."""
    extractor = toy(guidance=3.0).build(SPACES)
    backbone, observation = extractor.backbone, toy_observation(SPACES, extractor.window)
    levels = torch.tensor([4.0, 1.0, 0.0])
    stream = extractor.stream(observation, None, generators())
    _, second = [branches for _, _, branches in stream.descend(levels)]
    noisy = generators().randn(backbone.latent_shape, torch.zeros(())) * 17**0.5
    conditions = [backbone.condition(observation, unconditional) for unconditional in (True, False)]
    without, told = (backbone.denoise(noisy, torch.full((2,), 4.0), each).prediction for each in conditions)
    clean = 3 * told - 2 * without
    moved = clean + (noisy - clean) / 4
    for branch, condition in zip(second, conditions, strict=True):
        expected = extractor.tokens(backbone.denoise(moved, torch.ones(2), condition, ("hidden",)))
        torch.testing.assert_close(branch.tokens, expected)


def test_a_single_level_is_refused_when_acting() -> None:
    extractor = toy().build(SPACES)
    stream = extractor.stream(toy_observation(SPACES, extractor.window), None, generators())
    with pytest.raises(RecipeError, match="no features at a single level when it acts"):
        stream.at(torch.ones(2))


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


def test_clips_without_actions_still_teach_the_video_model() -> None:
    policy = Modular(extractor=toy(), decoder=unet()).build(SPACES)
    batch = toy_batch(SPACES, policy.window)
    batch.action_mask = torch.zeros_like(batch.action_mask)
    losses = policy.loss(batch)
    torch.stack(list(losses.values())).sum().backward()
    assert losses["action"].item() == 0.0 and losses["video"].item() > 0
    assert policy.extractor.backbone.outward.weight.grad.abs().max() > 0


def test_the_level_is_embedded_by_whoever_has_an_embedding() -> None:
    given = FeatureLayout(8, LAYOUT.axes, step_embedding=24)
    network = unet().build(given, SPACES).network
    assert network.sinusoid is None and network.diffusion_step_encoder[1].in_features == 24
    own = unet().build(LAYOUT, SPACES).eval()
    chunk, told = torch.randn(2, 4, SPACES.actions.dim), torch.randn(2, 32)
    low, high = (own.network(chunk, torch.full((2,), level), told) for level in (0.01, 100.0))
    assert (low - high).abs().max() > 1e-3


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


def test_it_learns_actions_that_static_features_tell() -> None:
    """Four kinds of features ask for four chunks; sampling gives them back."""
    torch.manual_seed(0)
    levels = {"training_levels": TrainingLevels(mean=0.0), "sampling_levels": SamplingLevels(steps=10, highest=80)}
    decoder = unet(down_dims=(64, 64), **levels).build(LAYOUT, SPACES)
    tokens = static(rows=4).branches[0].tokens
    stream = StaticStream(static(rows=4).observation, LAYOUT, [Branch(1.0, tokens.repeat(16, 1, 1))])
    actions = torch.rand(4, 4, SPACES.actions.dim) * 2 - 1
    chunks, mask = actions.repeat(16, 1, 1), torch.ones(64, 4, dtype=torch.bool)
    first, last = fit(lambda: decoder.loss(stream, chunks, mask), list(decoder.parameters()), 120)
    assert last < 0.4 * first
    sampled = decoder.eval().sample(static(rows=4), generators(4))
    assert (sampled - actions).abs().mean() < 0.15


def test_video_and_actions_are_learned_together() -> None:
    """Two windows, eight times over; the video model learns its own task, and the actions come out of its features."""
    torch.manual_seed(0)
    levels = {"training_levels": TrainingLevels(mean=0.0), "sampling_levels": SamplingLevels(steps=8, highest=10)}
    decoder = unet(down_dims=(64, 64), noise_samples=4, **levels)
    policy = Modular(extractor=toy(guidance=1.0), decoder=decoder).build(SPACES)
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
