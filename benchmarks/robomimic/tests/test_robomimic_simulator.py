"""The real simulator in its real environment, through the worker."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from vpolicy_robomimic.components import Robomimic

from videopolicy.errors import SimulationError
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.store import Store

pytestmark = [pytest.mark.simulator, pytest.mark.timeout(300)]

BENCHMARK = Robomimic(image_size=84, max_steps=60)
DOWN = (1, 0, 0, 0, -1, 0)
"""Two rows of the rotation matrix with which the gripper points straight down."""

OWN_PICTURES = """
import sys
import numpy as np, robosuite
controller = robosuite.load_controller_config(default_controller="OSC_POSE")
size = int(sys.argv[1])
env = robosuite.make("ToolHang", robots="Panda", controller_configs=dict(controller, control_delta=False),
    use_object_obs=False, camera_names=["sideview", "robot0_eye_in_hand"], camera_heights=size, camera_widths=size)
np.random.seed(100003)
seen = env.reset()
np.savez(sys.argv[2], **{name: seen[name] for name in seen if name.startswith(("sideview", "robot0"))})
"""
"""Robosuite alone, as robomimic makes it: hard reset, its own renderer."""


@pytest.fixture(scope="module")
def python():
    # The environment that was made for this checkout, whatever folder the tests run in.
    checkout = next(parent for parent in Path(__file__).parents if (parent / "requirements.lock").exists())
    root = None if os.environ.get("VPOLICY_HOME") else checkout / ".vpolicy"
    return interpreter(BENCHMARK.launch(), Store(root).root)


@pytest.fixture(scope="module")
def pool(python, tmp_path_factory):
    with WorkerPool(BENCHMARK.launch(), python, 2, tmp_path_factory.mktemp("logs"), BENCHMARK.spaces()) as pool:
        pool.start()
        yield pool


def aim(position, rows=DOWN, gripper=-1.0, steps=1) -> np.ndarray:
    return np.tile(np.float32([*position, *rows, gripper]), (steps, 1))


def fingerprint(observation) -> str:
    content = hashlib.sha256(observation["state"].tobytes())
    for image in observation["images"].values():
        content.update(image.tobytes())
    return content.hexdigest()


def play(pool, worker, episode):
    begun = pool.call(worker, "reset", task="tool_hang", episode=episode)
    target = begun["observation"]["state"][:3] + np.float32([0.1, -0.1, -0.15])
    answer = pool.call(worker, "step", actions=aim(target, gripper=1, steps=12), frames=[6, 12])
    seen = [begun["observation"], *answer["observations"].values()]
    return begun["initial_state"], [fingerprint(observation) for observation in seen]


def test_an_episode_is_the_same_to_the_last_bit_in_a_fresh_and_a_used_worker(pool):
    fresh = play(pool, 0, 3)
    other = play(pool, 1, 0)
    pool.call(1, "step", actions=aim((2, -2, -2), (0, 1, 0, 0, 0, 1), steps=20), frames=[20])  # into the table
    assert play(pool, 1, 3) == fresh
    assert play(pool, 0, 3) == fresh
    assert other != fresh


def test_the_first_picture_and_state_are_robosuites_own(pool, python, tmp_path):
    begun = pool.call(0, "reset", task="tool_hang", episode=3)["observation"]
    kept = tmp_path / "own.npz"
    environment = {**os.environ, "MUJOCO_GL": "egl", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), "-c", OWN_PICTURES, "84", str(kept)], env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    with np.load(kept) as own:
        names = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
        assert np.array_equal(begun["state"], np.concatenate([own[name] for name in names]).astype(np.float32))
        for camera, picture in begun["images"].items():
            assert np.array_equal(picture, own[f"{camera}_image"][::-1]), camera


def test_pictures_are_upright_and_not_mirrored(pool):
    begun = pool.call(0, "reset", task="tool_hang", episode=0)["observation"]
    side = begun["images"]["sideview"].astype(int)
    green = np.argwhere((side[..., 1] - side[..., 0] > 50) & (side[..., 1] - side[..., 2] > 50))  # top of the stand
    brown = np.argwhere((side[..., 0] - side[..., 2] > 40) & (side[..., 0] - side[..., 1] > 15))  # its base, frame
    assert len(green) and green[:, 0].mean() < brown[:, 0].mean() - 5  # up is up
    # The camera stands at the front left of the robot: tool and frame, on the robot's right (negative y), are seen
    # left of the stand, and the robot on the right.
    assert brown[:, 1].min() < green[:, 1].mean() - 20
    moved = pool.call(0, "step", actions=aim(begun["state"][:3] + np.float32([0, 0.15, 0]), steps=20), frames=[20])
    change = np.abs(moved["observations"][20]["images"]["sideview"].astype(int) - side).max(-1) > 60
    assert np.argwhere(change)[:, 1].mean() > 42


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_gripper_goes_to_the_pose_that_is_asked_for(pool, scale):
    begun = pool.call(0, "reset", task="tool_hang", episode=1)["observation"]["state"]
    turn = np.deg2rad(30)  # about the vertical axis
    rows = (np.cos(turn), np.sin(turn), 0, np.sin(turn), -np.cos(turn), 0)
    target = begun[:3] + np.float32([0.05, 0.1, -0.05])
    answer = pool.call(0, "step", actions=aim(target, np.multiply(scale, rows), 1, steps=40), frames=[40])
    state = answer["observations"][40]["state"]
    assert np.linalg.norm(state[:3] - target) < 0.01
    x, y, z, w = state[3:7]
    matrix_rows = (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w))
    # The measured body is turned by a constant 90 degrees about the gripper's axis against the controlled site.
    across = (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w))
    assert max(abs(np.dot(matrix_rows, rows[:3])), abs(np.dot(across, rows[:3]))) > 0.99
    assert state[7] < 0.005 < begun[7]  # positive closes


def test_rows_that_say_no_rotation_leave_the_orientation_as_it_was(pool):
    begun = pool.call(0, "reset", task="tool_hang", episode=2)["observation"]["state"]
    for rows in (np.zeros(6), (0, 0, 1, 0, 0, 1)):
        answer = pool.call(0, "step", actions=aim(begun[:3], rows, steps=10), frames=[10])
        state = answer["observations"][10]["state"]
        assert abs(np.dot(state[3:7], begun[3:7])) > 0.9999 and np.linalg.norm(state[:3] - begun[:3]) < 0.005


def test_doing_nothing_fails_at_the_step_limit(pool):
    begun = pool.call(1, "reset", task="tool_hang", episode=0, images=False)["observation"]["state"]
    answer = pool.call(1, "step", actions=aim(begun[:3], steps=70), frames=[])
    assert (answer["steps"], answer["success"], answer["done"]) == (60, False, True)


def test_actions_and_tasks_that_do_not_exist_are_errors(pool):
    pool.call(0, "reset", task="tool_hang", episode=0, images=False)
    with pytest.raises(SimulationError, match="actions are not finite"):
        pool.call(0, "step", actions=np.full((1, 10), np.nan, np.float32), frames=[])
    with pytest.raises(SimulationError, match="there is no task 'lift'"):
        pool.call(0, "reset", task="lift", episode=0)


def test_it_says_with_what_and_how_it_simulates(pool):
    greeting = pool.call(0, "hello")
    assert {greeting["versions"][name] for name in ("robosuite", "mujoco")} == {"1.4.1", "2.3.7"}
    assert greeting["rendering"] and "upright" in greeting["conventions"]["images"]


def test_fast_pictures_and_the_closeup_show_the_same_physics(pool, python, tmp_path):
    here = pool.call(1, "reset", task="tool_hang", episode=7)
    fast = BENCHMARK.model_copy(update={"rendering": "fast"})
    for other, size in ((fast, 84), (BENCHMARK.closeup(), 256)):
        with WorkerPool(other.launch(), python, 1, tmp_path / str(size), other.spaces()) as there:
            seen = there.call(0, "reset", task="tool_hang", episode=7)
        assert seen["initial_state"] == here["initial_state"]
        assert seen["observation"]["images"]["sideview"].shape == (size, size, 3)


def test_other_versions_than_declared_do_not_start(python, tmp_path):
    spec = BENCHMARK.launch()
    spec = spec.model_copy(update={"config": {**spec.config, "versions": {"mujoco": "3.3.0"}}})
    with (
        WorkerPool(spec, python, 1, tmp_path) as pool,
        pytest.raises(SimulationError, match=r"mujoco 3\.3\.0 is needed, this environment has 2\.3\.7"),
    ):
        pool.call(0, "hello")
