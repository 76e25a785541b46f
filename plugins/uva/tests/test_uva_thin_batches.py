"""Batches in which little or nothing counts: windows at the end of episodes, and episodes of one step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from vpolicy_uva.components import Uva, UvaAction, UvaJoint
from vpolicy_uva.options import ActionHead, Head, KlLatent, StateHead, Transformer

from videopolicy import Batch, Learner
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import toy_batch, toy_spaces

SMALL = {
    "image_size": (32, 32),
    "frames": 2,
    "stride": 2,
    "history_stride": 2,
    "latent": SpaceToDepthLatent(patch=8),
    "text": None,
    "transformer": Transformer(width=32, depth=1, heads=2),
    "video": Head(width=16, depth=1, sampling_steps=3),
}
ACTION = UvaAction(horizon=4, head=ActionHead(width=16, depth=1, sampling_steps=4))
STATE = StateHead(dimensions=(1, 2), aggregation="fc2", head=ActionHead(width=16, depth=1, sampling_steps=4))
JOINT = {
    "video": UvaJoint(**SMALL),
    "forward": UvaJoint(**SMALL, forward=True),
    "concatenated views": UvaJoint(**SMALL, views="concatenated"),
    "autoencoder": UvaJoint(**{**SMALL, "latent": KlLatent(channels=(32, 32, 32), layers=1, latent_channels=4)}),
    "state": UvaJoint(**SMALL, proprioception=True, predict_proprioception=STATE),
}
LEARNERS = {
    **{f"joint, {name}": joint for name, joint in JOINT.items()},
    "policy, a mode a sample": Uva(joint=JOINT["state"], action=ACTION, modes_per="sample"),
    "policy, a mode a batch": Uva(joint=JOINT["video"], action=ACTION, modes_per="batch"),
}


def past_the_end(batch: Batch) -> Batch:
    """The same, with nothing after the present: what is not there is NaN where it can be."""

    def none(mask: torch.Tensor | None) -> torch.Tensor | None:
        return None if mask is None else torch.zeros_like(mask)

    return replace(
        batch,
        future_mask=none(batch.future_mask),
        action_mask=none(batch.action_mask),
        actions=None if batch.actions is None else torch.full_like(batch.actions, torch.nan),
        future_state_mask=none(batch.future_state_mask),
    )


def losses_of(learner: Learner, batch: Batch) -> dict[str, float]:
    """The losses, after their gradients were found to be finite and there for every parameter."""
    losses = learner.train().loss(batch)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    return {name: value.item() for name, value in losses.items()}


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_without_a_future_costs_nothing(name: str, rows: int) -> None:
    learner = LEARNERS[name].build(toy_spaces())
    for seed in range(4):
        batch = past_the_end(toy_batch(toy_spaces(), learner.window, seed, rows))
        torch.manual_seed(seed)
        assert set(losses_of(learner, batch).values()) == {0.0}


@pytest.mark.parametrize("name", LEARNERS)
def test_rows_without_a_future_leave_the_others_their_loss(name: str) -> None:
    learner = LEARNERS[name].build(toy_spaces())
    batch = toy_batch(toy_spaces(), learner.window, 1, 2)
    assert batch.future_mask is not None
    batch.future_mask[0] = False
    if batch.action_mask is not None:
        batch.action_mask[0] = False
    found = losses_of(learner, batch)
    assert all(value >= 0 for value in found.values()) and max(found.values()) > 0.1
