"""The real simulator in its own environment, through the worker, where VPOLICY_ROBOCASA_SOURCE names a checkout."""

from __future__ import annotations

import os

import numpy as np
import pytest
from vpolicy_robocasa.components import RoboCasa

from videopolicy.errors import SimulationError
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool
from videopolicy.testing import BenchmarkContract

pytestmark = [
    pytest.mark.simulator,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not os.environ.get("VPOLICY_ROBOCASA_SOURCE"),
        reason="VPOLICY_ROBOCASA_SOURCE names no checkout of robocasa/robocasa at v0.2",
    ),
]

BENCHMARK = RoboCasa(
    task_names=("CoffeePressButton", "TurnSinkSpout"),
    image_size=32,
    assets="stand-in",
    rendering="fast",
    state=("robot0_base_to_eef_pos", "robot0_gripper_qpos"),
    scenes=((1, 1), (2, 2)),
)


class TestRoboCasa(BenchmarkContract):
    @pytest.fixture
    def component(self):
        return BENCHMARK


@pytest.fixture(scope="module")
def pool(environments, tmp_path_factory):
    python = interpreter(BENCHMARK.launch(), environments)
    logs = tmp_path_factory.mktemp("logs")
    with WorkerPool(BENCHMARK.launch(), python, 1, logs, BENCHMARK.spaces(), longest=500) as pool:
        yield pool


def test_task_and_episode_fix_kitchen_objects_and_sentence_whatever_was_before(pool):
    begun = pool.call(0, "reset", task="TurnSinkSpout", episode=3)
    assert begun["instruction"] in ("turn the sink spout to the left", "turn the sink spout to the right")
    images = begun["observation"]["images"]
    assert all(image.shape == (32, 32, 3) and image.std() > 10 for image in images.values()) and len(images) == 3
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 7)).astype(np.float32)
    there = pool.call(0, "step", actions=actions, frames=[5])
    pool.call(0, "reset", task="TurnSinkSpout", episode=2, images=False)
    again = pool.call(0, "reset", task="TurnSinkSpout", episode=3)
    assert again["initial_state"] == begun["initial_state"]
    here = pool.call(0, "step", actions=actions, frames=[5])
    assert np.array_equal(here["observations"][5]["state"], there["observations"][5]["state"])
    for name, image in there["observations"][5]["images"].items():
        assert np.array_equal(image, here["observations"][5]["images"][name])


def test_the_greeting_says_which_assets_and_versions_there_are(pool):
    greeting = pool.call(0, "hello")
    assert greeting["versions"]["robocasa"] == "756598a5be52" and greeting["versions"]["mujoco"] == "3.2.6"
    assert greeting["conventions"]["assets"] == "stand-in"
    assert greeting["conventions"]["action tail"] == [0.0, 0.0, 0.0, 0.0, -1.0]


def test_a_demonstration_holds_what_robocasas_files_do(pool):
    shown = pool.call(0, "demonstrate", task="CoffeePressButton", attempt=0, action_noise=0.0)
    count = len(shown["actions"])
    assert shown["success"] and 20 < count < 150 and shown["facts"]["expert"] == "scripted"
    assert (shown["facts"]["layout_id"], shown["facts"]["style_id"], shown["facts"]["assets"]) == (1, 1, "stand-in")
    assert shown["facts"]["model_file"].startswith("<mujoco") and len(shown["states"]) == count
    assert np.allclose(shown["arrays"]["obs/robot0_base_to_eef_pos"], shown["state"][:, :3], atol=1e-6)


def test_what_has_no_expert_is_said_with_what_does(pool):
    with pytest.raises(SimulationError, match="no expert for 'OpenDrawer', only for CoffeePressButton"):
        pool.call(0, "demonstrate", task="OpenDrawer", attempt=0, action_noise=0.0)
