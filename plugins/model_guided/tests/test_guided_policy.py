"""Chunks of actions chosen by their predicted outcome, with toy parts whose outcome is known."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn
from vpolicy_model_guided.components import ModelGuided
from vpolicy_model_guided.policy import batch_for, observation_for
from vpolicy_model_guided.scores import ColorDistance, GoalImage

from videopolicy import (
    Batch,
    Learner,
    LearnerComponent,
    Observation,
    Policy,
    PolicyComponent,
    RecipeError,
    RowGenerator,
    Spaces,
    Window,
    normal_noise,
)
from videopolicy.testing import PolicyContract, toy_batch, toy_observation, toy_spaces

SIZE = 16
TO_THE_RIGHT = ColorDistance(color=(255, 255, 255), to_point=(SIZE - 1, 0))


class Pusher(LearnerComponent):
    """Predicts a white column that stands where the first action dimension pushes it."""

    type: Literal["pusher"] = "pusher"
    frames: int = 2
    stride: int = 2
    past_actions: int = 0

    def window(self) -> Window:
        future = tuple(self.stride * (k + 1) for k in range(self.frames))
        return Window((-2, 0), future, past_actions=self.past_actions)

    def build(self, spaces: Spaces) -> Learner:
        return PusherModel(self, len(spaces.cameras))


class PusherModel(Learner):
    def __init__(self, options: Pusher, views: int) -> None:
        super().__init__()
        self.options, self.views = options, views
        self.brightness = nn.Parameter(torch.zeros(3))
        self.asked: list[tuple[Observation, Tensor, Tensor]] = []

    @property
    def window(self) -> Window:
        return self.options.window()

    @property
    def clip_offsets(self) -> tuple[int, ...]:
        return self.window.future

    @property
    def predicted_cameras(self) -> tuple[str, ...]:
        return ("front", "wrist")[: self.views]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        assert list(batch.future) and batch.actions is None
        errors = [(frames.float().mean((-1, -2)) / 255 - self.brightness).square() for frames in batch.future.values()]
        return {"video": torch.stack(errors).mean()}

    def predict_video(
        self,
        observation: Observation,
        generator: RowGenerator,
        actions: Tensor | None = None,
        steps: int = 1,
        guidance: float = 1.0,
    ) -> Tensor:
        assert actions is not None
        noise = normal_noise((len(observation), 1), actions, generator)
        self.asked.append((observation, actions, noise))
        columns = ((actions[:, :, 0].mean(dim=1) + 1) / 2 * (SIZE - 1)).round().clamp(0, SIZE - 1).long()
        frames = torch.zeros(len(observation), self.views, self.options.frames, 3, SIZE, SIZE, dtype=torch.uint8)
        for row, column in enumerate(columns):
            frames[row, :, -1, :, :, column] = 255
        return frames


class Guesser(PolicyComponent):
    """Proposes constant pushes drawn from a normal distribution around what the row's picture says."""

    type: Literal["guesser"] = "guesser"
    horizon: int = 4
    past_actions: int = 0

    def window(self) -> Window:
        return Window((-1, 0), horizon=self.horizon, past_actions=self.past_actions)

    def build(self, spaces: Spaces) -> Policy:
        return GuesserModel(self, spaces.actions.dim)


class GuesserModel(Policy):
    def __init__(self, options: Guesser, actions: int) -> None:
        super().__init__()
        self.options = options
        self.linear = nn.Linear(3, actions)
        self.seen: list[Observation] = []

    @property
    def window(self) -> Window:
        return self.options.window()

    def _mean(self, observation: Observation) -> Tensor:
        return self.linear(observation.images["front"][:, -1].float().mean((-1, -2)) / 255)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.actions is not None and batch.action_mask is not None and not batch.future
        error = (self._mean(batch.observation)[:, None] - batch.actions.nan_to_num()).square().mean(-1)
        return {"action": error[batch.action_mask].mean()}

    def act(self, observation: Observation, generator: RowGenerator) -> Tensor:
        self.seen.append(observation)
        mean = self._mean(observation)
        pushes = mean + 0.5 * normal_noise(tuple(mean.shape), mean, generator)
        return pushes[:, None].repeat(1, self.options.horizon, 1)


def guided(**options) -> ModelGuided:
    return ModelGuided(**{"proposer": Guesser(), "dynamics": Pusher(), "score": TO_THE_RIGHT, "samples": 8, **options})


def act(policy: Policy, observation: Observation) -> Tensor:
    return policy.act(observation, RowGenerator.from_seeds(list(range(len(observation)))))


class TestModelGuided(PolicyContract):
    @pytest.fixture
    def component(self):
        return guided(samples=5, batch=3)


class TestModelGuidedWithPastActions(PolicyContract):
    @pytest.fixture
    def component(self):
        return guided(samples=3, proposer=Guesser(past_actions=2), dynamics=Pusher(past_actions=3))


def test_the_chunk_with_the_best_prediction_is_executed():
    torch.manual_seed(0)
    policy = guided(samples=16, batch=7).build(toy_spaces()).eval()
    observation = toy_observation(toy_spaces(), policy.window, batch_size=3)
    chosen = act(policy, observation)
    proposed = torch.cat([actions for _, actions, _ in policy.dynamics.asked]).unflatten(0, (3, 16))
    assert proposed.shape == (3, 16, 4, 4)
    best = proposed[:, :, 0, 0].argmax(dim=1)
    # The prediction has columns: two pushes may look alike.
    assert torch.allclose(chosen[:, 0, 0], proposed[torch.arange(3), best, 0, 0], atol=2 / SIZE)
    alone = act(guided(samples=1).build(toy_spaces()).eval(), observation)
    assert alone.shape == chosen.shape and (chosen[:, 0, 0] - alone[:, 0, 0]).mean() > 0.3


def test_more_samples_score_better_and_one_is_the_proposer_alone():
    spaces, pushes = toy_spaces(), {}
    for samples in (1, 4, 32):
        torch.manual_seed(0)
        policy = guided(samples=samples).build(spaces).eval()
        pushes[samples] = act(policy, toy_observation(spaces, policy.window, batch_size=6))[:, 0, 0].mean()
        assert (len(policy.dynamics.asked) == 0) == (samples == 1)
    assert pushes[1] < pushes[4] < pushes[32]


def test_the_size_of_the_slices_changes_nothing():
    spaces, chosen = toy_spaces(), []
    for batch in (1, 5, 100):
        torch.manual_seed(0)
        policy = guided(samples=6, batch=batch).build(spaces).eval()
        chosen.append(act(policy, toy_observation(spaces, policy.window, batch_size=3)))
        assert max(len(actions) for _, actions, _ in policy.dynamics.asked) == min(batch, 18)
    assert torch.allclose(chosen[0], chosen[1], atol=1e-6) and torch.allclose(chosen[0], chosen[2], atol=1e-6)


def test_candidates_differ_in_their_actions_and_not_in_the_noise_of_their_predictions():
    policy = guided(samples=6).build(toy_spaces()).eval()
    act(policy, toy_observation(toy_spaces(), policy.window, batch_size=2))
    (_, actions, noise), *_ = policy.dynamics.asked
    assert len(set(actions[:, 0, 0].tolist())) == 12
    assert [len(set(row.flatten().tolist())) for row in noise.split(6)] == [1, 1] and noise[0] != noise[6]


def test_parts_see_their_own_offsets_and_past_actions():
    component = guided(samples=2, proposer=Guesser(past_actions=3), dynamics=Pusher(past_actions=1))
    assert component.window() == Window((-2, -1, 0), (2, 4), 4, 3)
    spaces, policy = toy_spaces(), component.build(toy_spaces()).eval()
    observation = toy_observation(spaces, policy.window)
    act(policy, observation)
    seen, (shown, _, _) = policy.proposer.seen[0], policy.dynamics.asked[0]
    for part, places, past in ((seen, [1, 2], 3), (shown, [0, 2], 1)):
        for name, images in observation.images.items():
            assert torch.equal(part.images[name], images[:, places].repeat_interleave(2, dim=0))
        assert torch.equal(part.state, observation.state[:, places].repeat_interleave(2, dim=0))
        wanted = observation.past_actions[:, -past:].repeat_interleave(2, dim=0)
        assert torch.equal(part.past_actions.nan_to_num(9), wanted.nan_to_num(9))
        assert part.instructions == [text for text in observation.instructions for _ in range(2)]


def test_parts_train_on_their_own_share_of_a_batch():
    whole, part = Window((-2, -1, 0), (2, 3, 4), 5, 2), Window((-1, 0), (2, 4), 3)
    batch = toy_batch(toy_spaces(), whole)
    own = batch_for(part, batch, whole)
    assert torch.equal(own.future["wrist"], batch.future["wrist"][:, [0, 2]])
    assert torch.equal(own.future_mask, batch.future_mask[:, [0, 2]])
    assert torch.equal(own.actions, batch.actions[:, :3]) and torch.equal(own.action_mask, batch.action_mask[:, :3])
    assert own.observation.past_actions is None
    assert batch_for(Window(), batch, whole).actions is None and batch_for(Window(), batch, whole).future == {}
    same = observation_for(whole, batch.observation, whole)
    assert torch.equal(same.images["front"], batch.observation.images["front"])


def test_a_proposer_too_short_for_the_dynamics_is_refused_with_both_numbers():
    [problem] = guided(dynamics=Pusher(stride=5)).check(toy_spaces())
    assert "'pusher' needs 10 actions" in problem and "'guesser' proposes 4" in problem
    assert guided().check(toy_spaces()) == []


def test_a_view_that_is_not_there_is_refused():
    score = TO_THE_RIGHT.model_copy(update={"view": 2})
    [problem] = guided(score=score).check(toy_spaces())
    assert "score.view is 2" in problem and "2 cameras" in problem


def test_dynamics_that_predicts_no_video_is_refused():
    with pytest.raises(RecipeError, match="'guesser' does not predict video"):
        guided(dynamics=Guesser()).build(toy_spaces())


def pictures(*places: tuple[int, int], color: tuple[int, int, int] = (250, 10, 10)) -> Tensor:
    """Black pictures with one 2 x 2 square each, at (x, y)."""
    found = torch.zeros(len(places), 1, 1, 3, 20, 30, dtype=torch.uint8)
    for row, (x, y) in enumerate(places):
        found[row, ..., y : y + 2, x : x + 2] = torch.tensor(color, dtype=torch.uint8).view(3, 1, 1)
    return found


def test_colors_are_as_far_apart_as_their_centres():
    frames = pictures((0, 0), (6, 8), (24, 14))
    score = ColorDistance(color=(255, 0, 0), to_point=(0.5, 0.5), tolerance=20)
    assert score(frames).tolist() == pytest.approx([0.0, -10.0, -((24**2 + 14**2) ** 0.5)])
    both = frames + pictures((3, 4), (3, 4), (3, 4), color=(0, 0, 200))
    score = ColorDistance(color=(255, 0, 0), to_color=(0, 0, 200), tolerance=20)
    assert score(both)[:2].tolist() == pytest.approx([-5.0, -5.0])


def test_a_colour_that_is_not_seen_is_the_worst_of_all():
    frames = torch.cat([pictures((28, 18)), torch.zeros_like(pictures((0, 0)))])
    score = ColorDistance(color=(255, 0, 0), to_point=(0, 0))
    farthest, missing = score(frames).tolist()
    assert missing == pytest.approx(-((20**2 + 30**2) ** 0.5)) and missing < farthest


def test_a_color_distance_has_one_target():
    for options in ({}, {"to_color": (0, 0, 0), "to_point": (1, 1)}):
        with pytest.raises(ValidationError, match="either 'to_color' or 'to_point'"):
            ColorDistance(color=(255, 0, 0), **options)


def test_the_nearer_to_the_goal_the_better(tmp_path):
    frames = pictures((0, 0), (20, 8))
    Image.fromarray(frames[1, 0, 0].permute(1, 2, 0).numpy()).save(tmp_path / "goal.png")
    scores = GoalImage(path=tmp_path / "goal.png")(frames)
    # Two squares of four pixels each, out of 20 x 30.
    wrong = 8 * ((250 / 255) ** 2 + 2 * (10 / 255) ** 2) / (20 * 30 * 3)
    assert scores.tolist() == pytest.approx([-wrong, 0])


def test_a_goal_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no picture .*nothing\.png"):
        guided(score=GoalImage(path=tmp_path / "nothing.png")).fetch()
    (tmp_path / "broken.png").write_text("no picture")
    with pytest.raises(RecipeError, match=r"broken\.png cannot be read"):
        GoalImage(path=tmp_path / "broken.png")(pictures((0, 0)))
