"""The scripted experts: their poses and names without a simulator, and a few episodes where LIBERO is installed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from vpolicy_libero import components
from vpolicy_libero.suites import suites

from videopolicy.errors import SimulationError
from videopolicy.simulators.environments import interpreter, is_ready

SIMULATOR = Path(components.__file__).parent / "simulator"


@pytest.fixture(scope="module")
def modules():
    names = ("experts_poses", "experts_motion", "experts")
    sys.path.insert(0, str(SIMULATOR))
    yield [importlib.import_module(name) for name in names]
    sys.path.remove(str(SIMULATOR))
    for name in names:
        del sys.modules[name]


@pytest.fixture(scope="module")
def python(environments):
    """LIBERO's own interpreter; its environment is not made for this test alone."""
    try:
        launch = components.Libero().launch()
    except SimulationError as error:
        pytest.skip(str(error))
    if not is_ready(launch, environments):
        pytest.skip("LIBERO's environment is not made yet")
    return interpreter(launch, environments)


class Still:
    """As much of robosuite's environment as a hand needs: it stands where the test puts it."""

    def __init__(self, place, rotation):
        self.sim = self.model = self.data = self.robot_model = self
        self.robots = [self]
        self.eef_name, self.eef_site_id = "hand", 0
        self.site_xpos, self.body_xmat = np.array([place]), np.array([rotation]).reshape(1, 9)

    def body_name2id(self, name):
        return 0


def test_rotation_vectors_undo_rotations_of_every_size(modules):
    poses = modules[0]
    for angle in (0.0, 1e-8, 0.3, -1.2, 3.0, np.pi - 1e-6):
        assert poses.rotation_vector(poses.about_z(angle)) == pytest.approx([0, 0, angle], abs=1e-6)
        assert poses.rotation_vector(poses.about_x(angle)) == pytest.approx([angle, 0, 0], abs=1e-6)
    half = poses.rotation_vector(poses.DOWN)  # half a turn about x, either way
    assert np.abs(half) == pytest.approx([np.pi, 0, 0])
    both = poses.about_x(0.4) @ poses.about_z(0.7)
    vector = poses.rotation_vector(both)
    assert both @ vector == pytest.approx(vector)  # the axis stays where it is
    assert 1 + 2 * np.cos(np.linalg.norm(vector)) == pytest.approx(np.trace(both))


def test_actions_point_to_the_place_within_the_bounds_and_the_speed(modules):
    poses, motion, _ = modules
    expert = motion.Expert(Still((0.1, 0.2, 1.0), poses.DOWN))
    action = expert.towards(np.array([0.12, 0.19, 1.0]), poses.about_z(0.1) @ poses.DOWN, motion.OPEN, 1.0)
    assert action == pytest.approx([0.4, -0.2, 0, 0, 0, 0.2, -1])
    far = expert.towards(np.array([1.1, 0.7, 1.0]), poses.about_z(2.0) @ poses.DOWN, motion.CLOSED, 0.6)
    assert far == pytest.approx([0.6, 0.3, 0, 0, 0, 0.5, 1])


def test_reaching_ends_at_the_place_or_after_its_steps(modules):
    poses, motion, _ = modules
    expert = motion.Expert(Still((0.0, 0.0, 1.0), poses.DOWN))
    assert list(expert.reach((0.0, 0.005, 1.0))) == []
    assert len(list(expert.reach((0.0, 0.5, 1.0), steps=7))) == 7
    assert list(expert.reach((0.0, 0.5, 1.0), until=lambda: True)) == []


def test_an_expert_that_has_finished_rests_with_an_open_hand(modules):
    poses, motion, _ = modules

    class Nothing(motion.Expert):
        def script(self):
            yield from ()

    expert = Nothing(Still((0.0, 0.0, 1.0), poses.DOWN))
    for _ in range(25):
        assert expert.action() == pytest.approx([0, 0, 0, 0, 0, 0, -1])


def test_experts_are_for_tasks_of_libero(modules):
    motion, experts = modules[1], modules[2]
    long, goal = set(suites()["libero_10"]), set(suites()["libero_goal"])
    assert set(experts.EXPERTS) <= long | goal
    assert len(set(experts.EXPERTS) & long) >= 7
    for expert in experts.EXPERTS.values():
        assert issubclass(expert, motion.Expert) and expert.script is not motion.Expert.script


@pytest.mark.slow
@pytest.mark.simulator
@pytest.mark.timeout(300)
def test_experts_solve_short_tasks_of_drawn_states_and_repeat_themselves(python):
    tasks = ["turn_on_the_stove=0.05", "open_the_middle_drawer_of_the_cabinet=0"]  # the noise of their actions
    command = [str(python), str(Path(__file__).with_name("play_expert.py")), str(SIMULATOR), *tasks]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    played = json.loads(done.stdout.rpartition("PLAYED ")[2])
    assert [episode["success"] for episode in played] == [True] * 4
    assert max(episode["steps"] for episode in played) < 120
    assert max(episode["largest"] for episode in played) == 1.0
    assert played[::2] == played[1::2]
