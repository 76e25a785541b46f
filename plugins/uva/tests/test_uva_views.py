"""Views one behind another in one clip (Liang et al. 2025, appendix A.2), and the guidance of predicted videos."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from vpolicy_uva.components import Uva, UvaAction, UvaJoint
from vpolicy_uva.options import ActionHead, Head, Transformer
from vpolicy_uva.policy import UvaPolicy

from videopolicy import RowGenerator
from videopolicy.components.text import WordText
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import toy_batch, toy_observation, toy_spaces


def policy_of(guidance: float = 1.0, **joint: Any) -> UvaPolicy:
    options: dict[str, Any] = {
        "image_size": (32, 32),
        "frames": 2,
        "stride": 2,
        "history_stride": 0,
        "latent": SpaceToDepthLatent(patch=8),
        "text": None,
        "transformer": Transformer(width=32, depth=1, heads=2, attention_dropout=0, dropout=0),
        "video": Head(width=32, depth=1, sampling_steps=4),
    }
    action = UvaAction(horizon=4, head=ActionHead(width=32, depth=1, sampling_steps=4))
    torch.manual_seed(0)
    return Uva(joint=UvaJoint(**options | joint), action=action, guidance=guidance).build(toy_spaces()).eval()


def concatenated(**joint: Any) -> UvaPolicy:
    return policy_of(views="concatenated", **joint)


def test_every_view_is_conditioned_on_one_frame_and_predicted_by_the_one_head() -> None:
    policy = concatenated()
    transformer = policy.joint.transformer
    assert policy.window.observed == (0,) and transformer.frames == 4
    assert len(transformer.views) == len(policy.joint.video_heads) == 1
    assert policy.predicted_cameras == ("front", "wrist")
    conditioning = policy.joint.seen(toy_observation(toy_spaces(), policy.window), RowGenerator.from_seeds([0, 1]))
    assert conditioning.history.shape == (2, 1, 4, 16, 192)
    by_view = conditioning.history.unflatten(2, (2, 2))
    assert torch.equal(by_view[:, :, :, 0], by_view[:, :, :, 1]), "both frames of a view have its own image"
    assert not torch.equal(by_view[:, :, 0], by_view[:, :, 1])


def test_predicted_frames_come_by_camera() -> None:
    """A head that knows the future of both views gives each camera its own."""
    policy = concatenated()
    batch = toy_batch(toy_spaces(), policy.window)
    _, future = policy.joint.practise(batch, ["video"] * len(batch))
    head = policy.joint.video_heads[0]
    head.sample = lambda branches, generator: future.flatten(1, 3)
    shown = policy.joint.predict_video(batch.observation, RowGenerator.from_seeds(list(range(len(batch)))))
    real = torch.stack([batch.future[name] for name in policy.predicted_cameras], dim=1)
    assert shown.shape == real.shape == (len(batch), 2, 2, 3, 32, 32)
    assert (shown.int() - real.int()).abs().max() <= 1


def test_actions_are_spread_over_the_frames_of_every_view() -> None:
    policy = concatenated(proprioception=True, history_stride=2)
    embedded = torch.arange(4.0)[None, :, None]
    spread = policy.joint.transformer._over_frames(embedded)[0, :, 0].view(2, 2, 16)  # views, frames, cells
    assert torch.equal(spread[0], spread[1])
    assert torch.equal(spread[0], torch.arange(4.0).repeat_interleave(8).view(2, 16))


def test_frames_past_the_end_are_masked_in_every_view() -> None:
    policy = concatenated()
    batch = toy_batch(toy_spaces(), policy.window)
    batch.future_mask[:] = torch.tensor([True, False])
    torch.manual_seed(0)
    conditioning, future = policy.joint.practise(batch, ["video"] * len(batch))
    joint = policy.joint.transformer(conditioning)
    policy.joint.video_heads[0].losses = lambda targets, conditions: targets.square().mean(dim=1)

    def loss(changed):
        return policy.joint.video_loss(joint, conditioning, changed, batch)

    for view in range(2):
        there, beyond = future.clone(), future.clone()
        there[:, :, 2 * view], beyond[:, :, 2 * view + 1] = 3.0, 3.0
        assert loss(there) != loss(future) == loss(beyond)


def test_inverse_dynamics_needs_nothing_but_the_frames() -> None:
    policy = concatenated()
    frames = {name: torch.zeros(2, 2, 3, 32, 32, dtype=torch.uint8) for name in ("front", "wrist")}
    assert policy.infer_actions(frames, RowGenerator.from_seeds([0, 1])).shape == (2, 4, 4)


@pytest.mark.parametrize("chosen", ["predicted_views", "seen_views"])
def test_they_are_one_clip_as_a_whole(chosen: str) -> None:
    with pytest.raises(ValueError, match="leave predicted_views and seen_views out"):
        concatenated(**{chosen: ("front",)})


def test_the_policys_own_guidance_is_that_of_its_videos() -> None:
    text = WordText(width=16, words=4, buckets=64, layers=0)
    plain, guided = (policy_of(text=text, text_tokens=2, guidance=scale) for scale in (1.0, 3.0))
    for policy in (plain, guided):
        torch.manual_seed(1)
        for parameter in policy.joint.video_heads.parameters():  # whose last layers begin at 0
            torch.nn.init.normal_(parameter, std=0.2)
    observation = toy_observation(toy_spaces(), plain.window)

    def predicted(policy, **options):
        return policy.predict_video(observation, RowGenerator.from_seeds([0, 1]), steps=4, **options)

    assert torch.equal(predicted(guided), predicted(plain, guidance=3.0))
    assert torch.equal(predicted(guided, guidance=1.0), predicted(plain))
    assert not torch.equal(predicted(guided), predicted(plain))
