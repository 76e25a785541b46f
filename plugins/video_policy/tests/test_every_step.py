"""Features of every denoising step, by what they do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from recordings import released_names
from torch import Tensor, nn
from vpolicy_video_policy.action_unet import ConditionalUNet
from vpolicy_video_policy.adapter import CnnAdapter
from vpolicy_video_policy.components import ActionUNet, EveryStep
from vpolicy_video_policy.options import Adapter

from videopolicy import BackboneComponent, Branch, RecipeError, RowGenerator
from videopolicy.components.modular import Modular
from videopolicy.testing import toy_batch, toy_observation, toy_spaces
from videopolicy.testing.toys import ToyBackbone

SPACES = toy_spaces(16)
LEVELS = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])
GRIDS = ((4, 4), (2, 2))
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

    shapes = released_names()
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
    adapter = CnnAdapter(component.adapter, 2, component.channels, component.strides, layout.step_embedding)
    maps = [torch.randn(3, 2, 12, channels, *grid) for channels, grid in zip(component.channels, GRIDS, strict=True)]
    tokens = adapter(maps, torch.randn(3, layout.step_embedding))
    assert tokens.shape == (3, component.adapter.frames_left(12) * 2 * 2, layout.dim) == (3, 12, 16)


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
    official_weights = unet(action_weight=32 / 57)
    _, official = losses_of(two_taps(views_in_one_clip, video_weight=25 / 57), official_weights)
    _, other = losses_of(two_taps(views_in_one_clip, video_weight=1.0), unet(action_weight=1.0))
    torch.testing.assert_close(official["video"] * 57 / 25, other["video"])
    torch.testing.assert_close(official["action"] * 57 / 32, other["action"])


def test_the_video_loss_is_the_mean_over_all_levels_that_were_asked_for() -> None:
    extractor = toy(video_weight=25 / 57).build(SPACES)
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


@torch.no_grad()
def test_guidance_may_rise_over_frames_and_actions() -> None:
    """Linearly from the first frame and action to the last ones, as ``LinearPredictionGuider`` has it."""
    extractor = toy(guidance=2.5, guidance_start=1.0).build(SPACES)
    backbone, observation = extractor.backbone, toy_observation(SPACES, extractor.window)
    levels = torch.tensor([4.0, 1.0, 0.0])
    stream = extractor.stream(observation, None, generators())
    first, second = [branches for _, _, branches in stream.descend(levels)]
    noisy = generators().randn(backbone.latent_shape, torch.zeros(())) * 17**0.5
    conditions = [backbone.condition(observation, unconditional) for unconditional in (True, False)]
    without, told = (backbone.denoise(noisy, torch.full((2,), 4.0), each).prediction for each in conditions)
    clean = torch.stack(
        [without[:, :, t] + scale * (told - without)[:, :, t] for t, scale in enumerate((1.0, 1.75, 2.5))], dim=2
    )
    moved = clean + (noisy - clean) / 4
    for branch, condition in zip(second, conditions, strict=True):
        expected = extractor.tokens(backbone.denoise(moved, torch.ones(2), condition, ("hidden",)))
        torch.testing.assert_close(branch.tokens, expected)
    assert [branch.weights(4).tolist() for branch in first] == [[0.0, -0.5, -1.0, -1.5], [1.0, 1.5, 2.0, 2.5]]


@torch.no_grad()
def test_the_decoder_weighs_every_action_by_its_own_scale() -> None:
    extractor = toy(guidance=2.5, guidance_start=1.0)
    policy = Modular(extractor=extractor, decoder=unet()).build(SPACES)
    stream = policy.extractor.stream(toy_observation(SPACES, policy.window), None, generators())
    level, _, branches = next(iter(stream.descend(LEVELS)))
    noisy, levels = torch.randn(2, *policy.decoder.shape), level.expand(2)
    without, told = (
        policy.decoder.denoise(noisy, levels, [replace(branch, weight=1.0, last_weight=None)], stream)
        for branch in branches
    )
    scales = torch.tensor([1.0, 1.5, 2.0, 2.5]).view(4, 1)
    found = policy.decoder.denoise(noisy, levels, branches, stream)
    torch.testing.assert_close(found, without + scales * (told - without))


@pytest.mark.parametrize("horizon", [4, 16])
def test_frames_and_actions_count_alike(horizon: int) -> None:
    """The official loss is one mean over all frames and actions: their numbers are the weights."""
    policy = Modular(extractor=toy(), decoder=unet(horizon=horizon)).build(SPACES)
    batch = toy_batch(SPACES, policy.window)
    batch.action_mask = torch.ones_like(batch.action_mask)
    plain = Modular(extractor=toy(video_weight=1), decoder=unet(horizon=horizon, action_weight=1)).build(SPACES)
    plain.load_state_dict(policy.state_dict())
    torch.manual_seed(0)
    unweighted = plain.loss(batch)
    torch.manual_seed(0)
    losses = policy.loss(batch)
    frames = 2 * 3  # of two views
    per_element = torch.cat([unweighted["video"].expand(2 * frames), unweighted["action"].expand(2 * horizon)])
    torch.testing.assert_close(losses["video"] + losses["action"], per_element.mean())


def test_the_official_weights_at_two_horizons() -> None:
    """25 frames and 32 or 16 actions, also where the video model is frozen and has no loss."""
    extractor = toy(frozen=True).build(SPACES)
    for horizon in (32, 16):
        batch = toy_batch(SPACES, replace(extractor.window, horizon=horizon))
        stream = extractor.stream(batch.observation, batch)
        stream.video_frames = 25
        derived, plain = unet(horizon=horizon), unet(horizon=horizon, action_weight=1)
        decoders = [options.build(extractor.layout, SPACES) for options in (derived, plain)]
        decoders[1].load_state_dict(decoders[0].state_dict())
        losses = []
        for decoder in decoders:
            torch.manual_seed(0)
            losses.append(decoder.loss(stream, batch.actions, batch.action_mask).item())
        assert losses[0] / losses[1] == pytest.approx(horizon / (25 + horizon))
        assert stream.video_weight == pytest.approx(25 / (25 + horizon)) and "video" not in stream.losses


def test_a_single_level_is_refused_when_acting() -> None:
    extractor = toy().build(SPACES)
    stream = extractor.stream(toy_observation(SPACES, extractor.window), None, generators())
    with pytest.raises(RecipeError, match="no features at a single level when it acts"):
        stream.at(torch.ones(2))


def test_clips_without_actions_still_teach_the_video_model() -> None:
    policy = Modular(extractor=toy(), decoder=unet()).build(SPACES)
    batch = toy_batch(SPACES, policy.window)
    batch.action_mask = torch.zeros_like(batch.action_mask)
    losses = policy.loss(batch)
    torch.stack(list(losses.values())).sum().backward()
    assert losses["action"].item() == 0.0 and losses["video"].item() > 0
    assert policy.extractor.backbone.outward.weight.grad.abs().max() > 0
