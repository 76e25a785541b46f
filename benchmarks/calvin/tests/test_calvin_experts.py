"""The scripted experts without the simulator: their tasks, how the hand moves, and what is said of other Pythons."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from vpolicy_calvin import components

SIMULATOR = Path(components.__file__).parent / "simulator"


@pytest.fixture(scope="module")
def modules():
    names = ("experts_motion", "experts")
    sys.path.insert(0, str(SIMULATOR))
    yield [importlib.import_module(name) for name in names]
    sys.path.remove(str(SIMULATOR))
    for name in names:
        del sys.modules[name]


class Follows:
    """As much of a table as a hand needs: the hand is where the target is, a step later."""

    def __init__(self, place, angles, opening=0.08):
        self.position, self.angles, self.opening = np.array(place, float), np.array(angles, float), opening
        self.taken = []

    def target(self):
        return self.position.copy(), self.angles.copy()

    def measured(self):
        return np.array([*self.position, *self.angles, self.opening, *np.zeros(7), 1.0]), np.zeros(24)

    def take(self, motion):
        for action in motion:
            assert np.abs(action).max() <= 1 + 1e-9
            self.position += action[:3] * 0.02
            self.angles += action[3:6] * 0.05
            self.taken.append(action)


def test_there_is_a_script_for_every_task(modules):
    assert set(modules[1].SCRIPTS) == set(components.sentences()) and len(modules[1].SCRIPTS) == 34


def test_a_motion_ends_at_its_pose_and_no_faster_than_it_may(modules):
    motion = modules[0]
    table = Follows((0.0, -0.2, 0.57), (3.09, -0.03, 1.5))
    hand = motion.Hand(table)
    table.take(hand.move(motion.Pose(0.1, -0.1, 0.5, 1.0), speed=0.5))
    assert np.allclose(table.position, (0.1, -0.1, 0.5), atol=2e-4)
    assert np.allclose(motion.wrapped(table.angles - (np.pi, 0, 1.0)), 0, atol=2e-3)
    assert max(np.abs(action[:3]).max() for action in table.taken) == pytest.approx(0.5)
    assert len(table.taken) <= 12


def test_a_motion_ends_with_noise_on_its_actions_too(modules):
    """Demonstrations are collected with noise: a target that was to be met to a tenth of a millimetre never was."""
    motion = modules[0]
    noise = np.random.default_rng(0)
    table = Follows((0.0, -0.2, 0.57), (3.09, -0.03, 1.5))
    for action in motion.Hand(table).move(motion.Pose(0.1, -0.1, 0.5, 1.0), speed=0.5):
        executed = action[:6] + 0.1 * noise.standard_normal(6)
        table.take([np.append(np.clip(executed, -1, 1), action[6])])
    assert len(table.taken) <= 14
    assert np.allclose(table.position, (0.1, -0.1, 0.5), atol=0.02 * 0.1 * 4)


def test_the_wrist_turns_back_instead_of_over_its_limit(modules):
    """Its range is 5.8 radians about the middle: from one side the shorter way to the other may lead out of it."""
    motion = modules[0]
    table = Follows((0.0, -0.1, 0.57), (np.pi, 0.0, motion.YAW + 2.7))
    table.take(motion.Hand(table).move(motion.Pose(0.0, -0.1, 0.57, motion.YAW - 1.9)))
    yaws = [action[5] for action in table.taken]
    assert max(yaws) <= 0 and table.angles[2] == pytest.approx(motion.YAW - 1.9, abs=2e-3)
    assert motion.near(motion.YAW + 2.7 - 2 * np.pi) == pytest.approx(motion.YAW + 2.7)


def test_a_hand_that_may_hold_something_opens_before_it_leaves(modules):
    motion = modules[0]
    for opening, opened in ((0.05, True), (0.08, True), (0.0, False)):
        table = Follows((0.0, -0.1, 0.46), (np.pi, 0.0, motion.YAW), opening)
        hand = motion.Hand(table)
        hand.gripper = motion.CLOSED
        table.take(hand.over(0.2, -0.1))
        grips = [action[6] for action in table.taken]
        assert (grips[0] == motion.OPEN) == opened and grips[-1] == motion.CLOSED
        risen = next(index for index, action in enumerate(table.taken) if action[0] > 0.1)
        assert set(grips[:risen]) == {motion.OPEN if opened else motion.CLOSED}


def test_another_python_is_named_before_anything_is_imported(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 12, 1, "final", 0))
    monkeypatch.syspath_prepend(str(SIMULATOR))
    with pytest.raises(RuntimeError, match=r"needs Python 3\.11, because pybullet 3\.2\.7 has no wheel for later ones"):
        importlib.import_module("playtable")
