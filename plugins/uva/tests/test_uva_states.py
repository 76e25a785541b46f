"""The robot's state at every step, states that are predicted, cameras that are predicted and not seen."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from vpolicy_uva.components import Uva, UvaAction, UvaJoint
from vpolicy_uva.latents import build_latents
from vpolicy_uva.options import ActionHead, Head, KlLatent, StateHead, Transformer
from vpolicy_uva.policy import UvaPolicy

from videopolicy import RecipeError, RowGenerator
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import toy_batch, toy_observation, toy_spaces

SPACES = toy_spaces(32)
SMALL_HEAD = ActionHead(width=32, depth=1, sampling_steps=4)


def joint_of(**options: object) -> UvaJoint:
    given = {
        "image_size": (32, 32),
        "frames": 2,
        "stride": 2,
        "history_stride": 2,
        "latent": SpaceToDepthLatent(patch=8),
        "text": None,
        "transformer": Transformer(width=32, depth=1, heads=2, attention_dropout=0, dropout=0),
        "video": Head(width=32, depth=1, sampling_steps=4),
        "proprioception": True,
    }
    return UvaJoint.model_validate({**given, **options})


def policy_of(modes_per: str = "batch", **options: object) -> UvaPolicy:
    torch.manual_seed(0)
    action = UvaAction(horizon=4, head=SMALL_HEAD)
    policy = Uva(joint=joint_of(**options), action=action, modes_per=modes_per).build(SPACES)
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad and "latent" not in name:
            nn.init.normal_(parameter, std=0.2)
    return policy.eval()


def latent_of(policy: UvaPolicy, batch: object) -> Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return policy.joint.transformer(policy.joint.practise(batch, ["policy"] * 2)[0])


class TestStates:
    @pytest.mark.parametrize(("states", "read"), [(None, 4), ("steps", 4), ("frames", 2)])
    def test_every_step_of_the_history_or_its_frames(self, states: str | None, read: int) -> None:
        policy = policy_of(states=states)
        assert policy.window.observed == ((-3, -2, -1, 0) if read == 4 else (-2, 0))
        batch = toy_batch(SPACES, policy.window)
        told = policy.joint.seen(batch.observation, RowGenerator.from_seeds([0, 1]))
        assert torch.equal(told.state, batch.observation.state) and told.state.shape == (2, read, 3)
        base = latent_of(policy, batch)
        assert told.history.shape[2] == 2, "images are those of the frames whatever is read of the state"
        for step in range(read):
            moved = toy_batch(SPACES, policy.window)
            moved.observation.state[:, step] += 1
            assert not torch.equal(base, latent_of(policy, moved)), step

    def test_states_lie_one_behind_the_other_over_the_cells(self) -> None:
        """The official code repeats each of 16 states 64 times over 1024 cells."""
        transformer = policy_of().joint.transformer
        told = policy_of().joint.seen(toy_observation(SPACES, policy_of().window), RowGenerator.from_seeds([0, 1]))
        stream = transformer._streams(told)[-1]
        embedded = transformer.state_in(told.state)
        cells = transformer.frames * transformer.cells // 4
        expected = torch.cat([embedded[:, [k]].expand(-1, cells, -1) for k in range(4)], dim=1)
        torch.testing.assert_close(stream, expected)

    def test_drawn_histories_have_the_states_of_their_frames(self) -> None:
        policy = policy_of(random_history=True)
        assert policy.window.observed == (-3, -2, -1, 0)
        observation = toy_observation(SPACES, policy.window)
        acting = policy.joint.seen(observation, RowGenerator.from_seeds([0, 1]))
        assert torch.equal(acting.state, observation.state[:, [1, 3]])
        torch.manual_seed(1)
        places = policy.joint._history_frames(drawn=True)
        torch.manual_seed(1)
        assert torch.equal(policy.joint._known(observation, None, drawn=True).state, observation.state[:, places])
        with pytest.raises(ValidationError, match="needs states: frames"):
            joint_of(random_history=True, states="steps")

    def test_states_must_divide_the_cells(self) -> None:
        with pytest.raises(ValidationError, match="states 6 must divide the 32 tokens of all frames"):
            joint_of(history_stride=3)
        assert joint_of(history_stride=3, states="frames").state_offsets == (-3, 0)
        assert joint_of(history_stride=0).state_offsets == (0,)


class TestPrediction:
    def test_its_loss_joins_those_of_every_mode_and_is_the_heads(self) -> None:
        policy = policy_of(predict_proprioception=StateHead(dimensions=(0, 2), head=SMALL_HEAD))
        assert policy.window.future_states == (1, 2, 3, 4)
        batch = toy_batch(SPACES, policy.window)
        for mode, others in {"policy": {"action"}, "forward": {"video"}, "full": {"video", "action"}}.items():
            policy._draw = lambda acted, mode=mode: [mode] * len(acted)
            assert set(policy.loss(batch)) == others | {"proprioception"}
        assert set(policy.joint.loss(batch)) == {"video", "proprioception"}
        joint, predicted = torch.randn(2, 32, 32), policy.joint.state_prediction
        torch.manual_seed(3)
        found = policy.joint.state_losses(joint, batch)["proprioception"]
        # Again, by the head's own forward and the loss of one vector, over the states that are there.
        torch.manual_seed(3)
        latents = predicted.aggregation(joint).flatten(0, 1)
        clean = torch.where(batch.future_state_mask[..., None], batch.future_state[..., [0, 2]], 0).flatten(0, 1)
        diffusion = predicted.head.diffusion
        timestep = diffusion.draw_timesteps(len(clean))
        noise = torch.randn_like(clean)
        output = predicted.head(diffusion.noisy(clean, timestep, noise), timestep, latents)
        losses = diffusion.losses(output, clean, timestep, noise).view(2, 4)
        assert not batch.future_state_mask.all()
        torch.testing.assert_close(found, losses[batch.future_state_mask].mean())

    def test_states_past_the_end_count_only_when_asked(self) -> None:
        for counted in (False, True):
            policy = policy_of(predict_proprioception=StateHead(head=SMALL_HEAD), future_mask=not counted)
            batch, losses = toy_batch(SPACES, policy.window), []
            for filling in (0.0, 5.0):
                batch.future_state[~batch.future_state_mask] = filling
                torch.manual_seed(0)
                losses.append(policy.joint.state_losses(torch.ones(2, 32, 32), batch)["proprioception"])
            assert torch.equal(*losses) != counted

    def test_it_learns(self) -> None:
        policy = policy_of(predict_proprioception=StateHead(aggregation="fc2", head=SMALL_HEAD)).train()
        batch = toy_batch(SPACES, policy.window)
        batch.future_state[:] = batch.future_state[:, :1] * 0.5
        optimizer, losses = torch.optim.Adam(policy.joint.parameters(), lr=3e-3), []
        for step in range(60):
            torch.manual_seed(step)
            told, _ = policy.joint.practise(batch, ["policy"] * 2)
            loss = policy.joint.state_losses(policy.joint.transformer(told), batch)["proprioception"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert sum(losses[-10:]) < 0.5 * sum(losses[:10])

    def test_what_cannot_be_predicted_is_said(self) -> None:
        policy = policy_of(predict_proprioception=StateHead(head=SMALL_HEAD))
        batch = toy_batch(SPACES, policy.window)
        batch.future_state = None
        with pytest.raises(RecipeError, match="no states to come"):
            policy.joint.state_losses(torch.ones(2, 32, 32), batch)
        (said,) = joint_of(predict_proprioception={"dimensions": (3,)}).check(SPACES)
        assert "predicts dimension 3" in said and "has 3" in said


class TestViews:
    def test_a_camera_that_is_predicted_and_not_seen(self) -> None:
        policy = policy_of(seen_views=("front",))
        batch = toy_batch(SPACES, policy.window)
        assert policy.joint.predicted_cameras == ("front", "wrist") and len(policy.joint.video_heads) == 2
        assert policy.joint.transformer.fuse.in_features == 5 * 32  # two futures, one history, actions, state
        base = latent_of(policy, batch)
        for name, matters in (("front", True), ("wrist", False)):
            changed = toy_batch(SPACES, policy.window)
            changed.observation.images[name] = 255 - changed.observation.images[name]
            assert torch.equal(base, latent_of(policy, changed)) != matters
        frames = policy.predict_video(batch.observation, RowGenerator.from_seeds([0, 1]))
        assert frames.shape == (2, 2, 2, 3, 32, 32)

    def test_inverse_dynamics_then_needs_nothing_but_the_frames(self) -> None:
        policy = policy_of(seen_views=("front",), proprioception=False)
        frames = {name: torch.zeros(2, 2, 3, 32, 32, dtype=torch.uint8) for name in ("front", "wrist")}
        assert policy.infer_actions(frames, RowGenerator.from_seeds([0, 1])).shape == (2, 4, 4)

    def test_views_that_do_not_go_together(self) -> None:
        for options, said in (
            ({"seen_views": ("wrist",)}, "always sees the first view: add front"),
            ({"seen_views": ("front", "left")}, "sees view left, and the cameras are front, wrist"),
            ({"seen_views": ("front",), "predicted_views": ("front",)}, "neither sees nor predicts view wrist"),
        ):
            assert said in " ".join(joint_of(**options).check(SPACES))


def test_the_autoencoder_computes_in_single_precision_unless_asked_otherwise() -> None:
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    for precision, exact in (("float32", True), ("autocast", False)):
        torch.manual_seed(0)
        latents = build_latents(KlLatent(channels=(32, 32), layers=1, latent_channels=4, precision=precision))
        moments = latents.moments(images)
        plain = [moments, latents.decode(moments[:, :4])]
        with torch.autocast("cpu", torch.bfloat16):
            mixed = [latents.moments(images), latents.decode(moments[:, :4])]
        for found, expected in zip(mixed, plain, strict=True):
            assert torch.equal(found, expected) == exact
            torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)
