"""Policies of every method on a device that is as strict as CUDA, on machines without one."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch
from other_device import AWAY, Away, other_device
from small_policies import POLICIES, small_policy

from videopolicy import RowGenerator, to_device
from videopolicy.bench.settings import Settings
from videopolicy.bench.subject import Subject
from videopolicy.testing import toy_batch

WAITS = {"vpp": 0, "video_policy": 0, "uva": 1, "diffusion_policy": 0}
"""How often a plan of each small policy makes the processor wait for the device, at most: a number to lower."""
WAITS_LEARNING = {"vpp": 0, "video_policy": 0, "uva": 2, "diffusion_policy": 0}
"""The same of the loss of one training step."""


def plan_there(subject: Subject) -> tuple[torch.Tensor, torch.Tensor, Counter]:
    """Actions ``(2, H, A)`` as the processor chooses them, as the other device does, and for what that was waited."""
    seen = subject.observation(2)
    with torch.no_grad():
        expected = subject.policy.act(subject.normalizer.observation(seen), RowGenerator.from_seeds([1, 2]))
        subject.policy.reset([0, 1])
        with other_device() as waits:
            policy, normalizer = subject.policy.to(AWAY), subject.normalizer.to(AWAY)
            moved = normalizer.observation(seen.to(AWAY))
            policy.act(moved, RowGenerator.from_seeds([1, 2]))  # remembers the sentence
            policy.reset([0, 1])
            waits.clear()
            found = policy.act(moved, RowGenerator.from_seeds([1, 2]))
    assert isinstance(found, Away)
    return expected, found.held, Counter(waits)


@pytest.mark.parametrize("name", POLICIES)
def test_acts_on_another_device_with_few_waits(name, tmp_path):
    expected, found, waits = plan_there(Subject(small_policy(name, tmp_path), Settings("cpu"), None))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert waits.total() <= WAITS[name], f"the processor waits for the device more often: {dict(waits)}"


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("vpp", {}),
        ("video_policy", {}),
        ("uva", {}),
        ("diffusion_policy", {}),
        ("diffusion_policy", {"sampler: ddim": "sampler: ddpm"}),
    ],
)
def test_more_steps_of_sampling_are_no_more_waits(name, changed, tmp_path):
    counted = []
    for factor in (1, 2):
        steps = {f"steps: {one}": f"steps: {factor * int(one)}" for one in re.findall(r"steps: (\d+)", POLICIES[name])}
        subject = Subject(small_policy(name, tmp_path, {**steps, **changed}), Settings("cpu"), None)
        counted.append(plan_there(subject)[2])
    assert counted[0] == counted[1]


@pytest.mark.parametrize("name", ["video_policy", "uva"])
def test_more_steps_of_predicting_video_are_no_more_waits(name, tmp_path):
    subject = Subject(small_policy(name, tmp_path), Settings("cpu"), None)
    policy = subject.policy
    predictor = policy if name == "uva" else policy.extractor.backbone
    counted = []
    with torch.no_grad(), other_device() as waits:
        seen = subject.normalizer.to(AWAY).observation(subject.observation(2).to(AWAY))
        policy.to(AWAY)
        for steps in (2, 2, 4):  # the first reads the sentence
            waits.clear()
            predictor.predict_video(seen, RowGenerator.from_seeds([1, 2]), steps=steps)
            counted.append(Counter(waits))
    assert counted[1] == counted[2]


@pytest.mark.parametrize("name", POLICIES)
def test_learns_on_another_device_with_few_waits(name, tmp_path):
    subject = Subject(small_policy(name, tmp_path), Settings("cpu"), None)
    policy = subject.policy.train().requires_grad_(True)
    batch = toy_batch(subject.spaces, policy.window, batch_size=2)
    with torch.no_grad(), other_device() as waits:
        policy.to(AWAY)
        moved = batch.to(AWAY)
        policy.loss(moved)  # reads the sentences
        waits.clear()
        losses = policy.loss(moved)
        found = Counter(waits)
    assert all(isinstance(value, Away) and bool(value.held.isfinite()) for value in losses.values())
    assert found.total() <= WAITS_LEARNING[name], f"the processor waits for the device more often: {dict(found)}"


def test_mixing_devices_and_waiting_are_noticed():
    with other_device() as waits:
        there = torch.ones(3, device=AWAY)
        assert there.device == AWAY and float((there + 1).sum()) == 6
        assert dict(waits) == {"aten._local_scalar_dense.default": 1}
        with pytest.raises(RuntimeError, match="are on cpu"):
            there + torch.ones(3)
        assert (there * torch.tensor(2.0)).device == AWAY, "single numbers of the processor may be mixed in"


def test_copies_from_ordinary_memory_are_waited_for():
    here = torch.ones(3)
    with other_device() as waits:
        here.to(AWAY)
        here.to(AWAY, non_blocking=True)
        assert dict(waits) == {"to the device": 2}
        here.pin_memory().to(AWAY, non_blocking=True)
        assert dict(waits) == {"to the device": 2}


def test_another_type_is_made_behind_the_copy():
    here = torch.ones(3, dtype=torch.float64)
    with other_device() as waits:
        assert to_device(here, AWAY).dtype == torch.float64
        found = to_device(here, AWAY, torch.float32)
        assert (found.device, found.dtype, float(found.held.sum())) == (AWAY, torch.float32, 3) and not waits
    assert to_device(here, torch.device("cpu")) is here
