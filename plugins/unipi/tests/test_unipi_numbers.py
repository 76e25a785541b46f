"""What is read out of frames: known worlds, known weights, and which frames are looked at."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_video_model import small
from torch import Tensor, nn
from vpolicy_unipi.components import InverseDynamics, Unipi

from videopolicy import (
    Batch,
    Learner,
    LearnerComponent,
    Observation,
    RecipeError,
    RowGenerator,
    Spaces,
    WeightsError,
    Window,
)
from videopolicy.recipes.ablation import load_ablation
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage.store import Store
from videopolicy.testing import toy_batch, toy_observation, toy_spaces
from videopolicy.testing.toys import ToyPolicy
from videopolicy.training.planning import plan

RECIPES = Path(__file__).resolve().parents[3] / "recipes"
SIZE, GAP, FRAMES = 32, 2, 3
SPACES = toy_spaces(SIZE)


def world(places: Tensor) -> Tensor:
    """Frames ``(..., 3, SIZE, SIZE)`` uint8 with a soft white column at each place in [-1, 1]."""
    columns = torch.linspace(-1, 1, SIZE)
    bright = torch.exp(-((columns - places[..., None]) ** 2) / 0.02) * 255
    return bright[..., None, None, :].expand(*places.shape, 3, SIZE, SIZE).to(torch.uint8).contiguous()


def films(rows: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Frames ``(rows, 1 + FRAMES, 3, SIZE, SIZE)`` of both cameras and the actions ``(rows, FRAMES * GAP, 4)`` between.

    The first camera shows where the hand is in x, the second in y; actions are constant between two frames.
    """
    draw = torch.Generator().manual_seed(seed)
    moves = torch.rand(rows, FRAMES, 2, generator=draw) - 0.5
    begin = (torch.rand(rows, 1, 2, generator=draw) - 0.5) * 0.4
    places = torch.cat([begin, begin + moves.cumsum(1) * 0.4], dim=1)
    actions = torch.zeros(rows, FRAMES, GAP, 4)
    actions[..., :2] = moves[:, :, None] * 2
    return {"front": world(places[..., 0]), "wrist": world(places[..., 1])}, actions.flatten(1, 2)


class Film(LearnerComponent):
    """Predicts the film whose first frame it sees."""

    type: Literal["film"] = "film"
    offsets: tuple[int, ...] = (2, 4, 6)
    cameras: tuple[str, ...] = ("front", "wrist")
    horizon: int = 0

    def window(self) -> Window:
        return Window((-1, 0), self.offsets, self.horizon)

    def build(self, spaces: Spaces) -> Learner:
        return FilmModel(self)


class FilmModel(Learner):
    every_parameter_learns = True

    def __init__(self, options: Film) -> None:
        super().__init__()
        self.options = options
        self.weight = nn.Parameter(torch.zeros(1))
        self.known: dict[str, Tensor] = {}
        self.asked: list[dict[str, Any]] = []

    window = property(lambda self: self.options.window())
    clip_offsets = property(lambda self: (0, *self.options.offsets))
    predicted_cameras = property(lambda self: self.options.cameras)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.actions is None and batch.observation.images["front"].shape[1] == 2
        return {"video": (self.weight - 1).square().mean()}

    def predict_video(self, observation: Observation, generator: RowGenerator, **options: Any) -> Tensor:
        self.asked.append(options)
        # Its own present frame is black: nothing may be read out of it.
        clip = torch.stack([self.known[name] for name in self.options.cameras], dim=1)
        return torch.cat([torch.zeros_like(clip[:, :, :1]), clip[:, :, 1:]], dim=2)


def inverse(**changes: Any) -> InverseDynamics:
    return InverseDynamics(**{"model": "resnet10t", "image_size": (SIZE, SIZE), "gap": GAP, **changes})


def pair_batch(rows: int, seed: int) -> Batch:
    frames, actions = films(rows, seed)
    observation = toy_observation(SPACES, Window(), batch_size=rows)
    observation.images = {name: clip[:, :1] for name, clip in frames.items()}
    return Batch(
        observation,
        future={name: clip[:, 1:2] for name, clip in frames.items()},
        future_mask=torch.ones(rows, 1, dtype=torch.bool),
        actions=actions[:, :GAP],
        action_mask=torch.ones(rows, GAP, dtype=torch.bool),
    )


class Reader(nn.Module):
    """In the place of the ResNet: reads how far the columns have moved between the two frames of each camera."""

    def forward(self, pixels: Tensor) -> Tensor:
        bright = pixels.unflatten(1, (2, 2, 3))[:, :, :, 0]  # (N, frames, views, H, W)
        bright = bright - bright.amin((-1, -2), keepdim=True)
        columns = torch.linspace(-1, 1, SIZE)
        places = (bright.sum(-2) * columns).sum(-1) / bright.sum((-1, -2)).clamp(min=1e-6)
        actions = torch.zeros(len(pixels), GAP, 4)
        actions[..., :2] = 5 * (places[:, 1] - places[:, 0])[:, None]
        return actions.flatten(1)


def filmed(rows: int, seed: int, **options: Any) -> tuple[Any, Observation, dict[str, Tensor], Tensor]:
    """A policy that knows how films go on and reads them, what it sees, the films, and the actions in them."""
    frames, actions = films(rows, seed)
    policy = Unipi(video=Film(), inverse=inverse(), **options).build(SPACES).eval()
    policy.inverse.network, policy.video.known = Reader(), frames
    seen = toy_observation(SPACES, policy.window, batch_size=rows)
    seen.images = {name: clip[:, :1].expand(-1, 2, -1, -1, -1) for name, clip in frames.items()}
    return policy, seen, frames, actions


def seeds(rows: int) -> RowGenerator:
    return RowGenerator.from_seeds(list(range(rows)))


@pytest.mark.slow
def test_one_batch_is_learned():
    torch.manual_seed(0)
    model, batch, losses = inverse().build(SPACES), pair_batch(32, seed=0), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(40):
        loss = model.loss(batch)["inverse"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0], losses


def test_the_actions_of_a_predicted_film_are_read_pair_by_pair_and_camera_by_camera():
    policy, seen, frames, actions = filmed(8, seed=1)
    found = policy.act(seen, seeds(8))
    assert found.shape == actions.shape == (8, FRAMES * GAP, 4)
    assert torch.allclose(found, actions, atol=0.1)
    assert policy.video.asked == [{"actions": None, "guidance": None}]
    later = {name: clip[:, 1:] for name, clip in frames.items()}
    assert torch.equal(policy.infer_actions(later, seeds(8), seen), found)
    still = {**later, "front": frames["front"][:, :1].expand_as(later["front"])}
    found = policy.infer_actions(still, seeds(8), seen)
    assert found[..., 0].abs().max() < 0.01 and torch.allclose(found[..., 1], actions[..., 1], atol=0.1)


def test_steps_and_guidance_of_the_video_reach_it():
    policy, seen, _, _ = filmed(2, seed=0, video_steps=7, guidance=2.0)
    policy.act(seen, seeds(2))
    policy.predict_video(seen, seeds(2), steps=3, guidance=1.0)
    assert policy.video.asked == [
        {"actions": None, "guidance": 2.0, "steps": 7},
        {"actions": None, "guidance": 1.0, "steps": 3},
    ]


def test_it_learns_from_recorded_frames_alone(monkeypatch: pytest.MonkeyPatch):
    policy = Unipi(video=Film(), inverse=inverse()).build(SPACES)
    monkeypatch.setattr(FilmModel, "predict_video", lambda *_, **__: pytest.fail("a frame was generated"))
    assert set(policy.loss(toy_batch(SPACES, policy.window))) == {"video", "inverse"}


def test_the_frames_that_it_sees_may_be_of_another_size_than_those_that_are_predicted():
    policy, seen, frames, actions = filmed(4, seed=2)
    larger = {name: clip.repeat_interleave(2, -1).repeat_interleave(2, -2) for name, clip in seen.images.items()}
    later = {name: clip[:, 1:] for name, clip in frames.items()}
    found = policy.infer_actions(later, seeds(4), replace(seen, images=larger))
    assert torch.allclose(found, actions, atol=0.2)
    with pytest.raises(RecipeError, match="there is no observation"):
        policy.infer_actions(later, seeds(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"video": Film(offsets=(3, 6))}, r"3 steps apart, and the pairs of 'inverse-dynamics' are 2 .*`gap` to 3"),
        ({"video": Film(offsets=(2, 6))}, "equal distances"),
        ({"video": Film(offsets=())}, "predicts no frame to come"),
        ({"video": Film(horizon=6)}, "conditioned on actions"),
    ],
)
def test_parts_that_do_not_fit_are_named_without_building_them(options: dict[str, Any], message: str):
    (problem,) = Unipi(**{"inverse": inverse(), **options}).check(SPACES)
    assert re.search(message, problem)
    assert Unipi(video=Film(), inverse=inverse()).check(SPACES) == []


def test_parts_that_cannot_do_it_are_named():
    for options, message in (
        ({"video": ToyPolicy()}, "policy.video: 'toy' does not predict video"),
        ({"inverse": ToyPolicy()}, "policy.inverse: 'toy' infers no actions"),
        ({"video": Film(cameras=("front",))}, "does not predict wrist, which inverse dynamics sees"),
        ({"inverse": inverse(model="resnet0")}, "timm has no model 'resnet0'"),
    ):
        with pytest.raises(RecipeError, match=message) as caught:
            Unipi(**{"video": Film(), "inverse": inverse(), **options}).build(SPACES)
        assert caught.value.hint


def test_published_weights_see_every_picture_alike(tmp_path: Path):
    torch.manual_seed(0)
    published = timm.create_model("resnet10t", num_classes=10)
    save_file(published.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(1)
    network = inverse(weights=str(tmp_path)).build(SPACES).network
    first = next(name for name, value in network.state_dict().items() if value.ndim == 4)
    ours, theirs = network.state_dict()[first], published.state_dict()[first]
    assert ours.shape[1] == 12 and torch.allclose(ours, theirs.repeat(1, 4, 1, 1) / 4)
    assert torch.equal(network.layer4[0].conv1.weight, published.layer4[0].conv1.weight)
    assert network.fc.weight.shape[0] == GAP * 4
    save_file({"other": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="do not match the model"):
        inverse(weights=str(tmp_path)).build(SPACES)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="timm's resnet10t cannot be loaded"):
        inverse(weights=str(tmp_path)).build(SPACES)


def test_the_small_recipe_shares_the_quickstarts_video_model(tmp_path: Path):
    ours, quickstart = (load_recipe(RECIPES / f"{name}.yaml") for name in ("unipi_metaworld_small", "quickstart"))
    first, other = (plan(recipe, None, Store(tmp_path))[0] for recipe in (ours, quickstart))
    assert first.key == other.key
    assert ours.policy.check(ours.benchmark.spaces()) == []


def test_table_one_has_unipi_beside_the_published_number():
    loaded = load_ablation(RECIPES / "ablations" / "uva_table1.yaml")
    published = {one.row.name: one.row.published.value for one in loaded.variants}
    assert published == {"DP-C": 0.91, "DP-T": 0.78, "UniPi": 0.42, "UVA-action": 0.45, "UVA": 0.98}
    recipes = {one.row.name: one.recipe for one in loaded.variants}
    assert len({str(one.benchmark) for one in recipes.values()}) == 1
    unipi = recipes["UniPi"]
    assert (unipi.policy.type, unipi.policy.window().horizon, unipi.eval.execute) == ("unipi", 16, 8)


def test_stable_video_diffusion_gives_its_frames():
    policy = Unipi(video=small(stride=2), inverse=inverse(), video_steps=2).build(SPACES).eval()
    assert policy.clip_offsets == (0, 2, 4) and policy.predicted_cameras == ("front", "wrist")
