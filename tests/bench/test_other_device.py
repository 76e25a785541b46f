"""Policies of every method on a device that is as strict as CUDA, on machines without one."""

from __future__ import annotations

import pytest
import torch
from other_device import AWAY, Away, other_device
from small_policies import POLICIES, small_policy

from videopolicy import RowGenerator
from videopolicy.bench.settings import Settings
from videopolicy.bench.subject import Subject

WAITS = {"vpp": 5, "video_policy": 11, "uva": 6, "diffusion_policy": 10}
"""How often a plan of each small policy makes the processor wait for the device, at most: a number to lower."""


@pytest.mark.parametrize("name", POLICIES)
def test_acts_on_another_device_with_few_waits(name, tmp_path):
    subject = Subject(small_policy(name, tmp_path), Settings("cpu"), None)
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
    torch.testing.assert_close(found.held, expected, rtol=1e-4, atol=1e-4)
    assert waits.total() <= WAITS[name], f"the processor waits for the device more often: {dict(waits)}"


def test_mixing_devices_and_waiting_are_noticed():
    with other_device() as waits:
        there = torch.ones(3, device=AWAY)
        assert there.device == AWAY and float((there + 1).sum()) == 6
        assert dict(waits) == {"aten._local_scalar_dense.default": 1}
        with pytest.raises(RuntimeError, match="are on cpu"):
            there + torch.ones(3)
        assert (there * torch.tensor(2.0)).device == AWAY, "single numbers of the processor may be mixed in"
