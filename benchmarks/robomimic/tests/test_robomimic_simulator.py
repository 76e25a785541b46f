"""The real simulator in its real environment, through the worker."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import vpolicy_worker
from vpolicy_robomimic.components import Robomimic

from videopolicy.errors import SimulationError
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool

pytestmark = [pytest.mark.simulator, pytest.mark.timeout(300)]

BENCHMARK = Robomimic(image_size=84, max_steps=60)
DOWN = (0, 1, 0, 1, 0, 0)
"""Two rows of the rotation matrix with which the gripper points straight down, its fingers along y."""

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


SOLVED = """
import sys
sys.path[:0] = sys.argv[1:]
import numpy as np
from simulator import Scene, mujoco_rendering
_, context = mujoco_rendering.open_context(32)
scene = Scene("tool_hang", 32, "fast")
scene.reset(100000)
env, data = scene.env, scene.env.sim.data
hold = np.concatenate([scene.state()[:3], np.ravel(env.robots[0].controller.goal_ori[:2]), [-1]])
frame = np.array([-0.124, 0.045, 0.954])  # upright, its tip in the stand
hook = frame + [-0.02, 0, 0.086]
half = np.sqrt(0.5)
for expected, tool in ((False, hook + [0.2, 0, 0]), (True, hook - [0, 0, 0.0995])):
    scene.reset(100000)
    data.set_joint_qpos(env.frame.joints[0], [*frame, 1, 0, 0, 0])
    data.set_joint_qpos(env.tool.joints[0], [*tool, half, 0, half, 0])  # its larger hole at the top
    env.sim.forward()
    print([scene.step(hold) for _ in range(10)] == [expected] * 10)
"""
"""The frame is put into the stand, the tool beside it and then onto the hook, and both are let go."""


@pytest.fixture(scope="module")
def python(environments):
    return interpreter(BENCHMARK.launch(), environments)


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


def wood(image: np.ndarray) -> np.ndarray:
    """(row, column) of the pixels of stand and frame ``(n, 2)``."""
    red, green, blue = np.moveaxis(image.astype(int), -1, 0)
    found = np.argwhere((red - blue > 40) & (red - green > 15))
    assert len(found) > 100
    return found


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
    # The side camera stands before the robot and looks at it: the frame, on the robot's right, lies on the left, and
    # the stand's rod points up from its base.
    side = wood(begun["images"]["sideview"])
    stand = side[side[:, 1] > 40]
    rod, base = stand[stand[:, 0] < 60], stand[stand[:, 0] > 66]
    assert side[:, 1].min() < 20 and 0 < len(rod) < len(base)
    for left in (-1, 1):
        pool.call(0, "reset", task="tool_hang", episode=0, images=False)
        target = begun["state"][:3] + np.float32([0, 0.15 * left, 0.05])
        after = pool.call(0, "step", actions=aim(target, steps=15), frames=[15])["observations"][15]
        assert (after["state"][1] - begun["state"][1]) * left > 0.1
        # The wrist's picture has the robot's front on top: what lies below slips away to the other side.
        slip = np.median(wood(after["images"]["robot0_eye_in_hand"]), 0)
        slip -= np.median(wood(begun["images"]["robot0_eye_in_hand"]), 0)
        assert slip[1] * left > 10


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_gripper_goes_to_the_pose_that_is_asked_for(pool, scale):
    begun = pool.call(0, "reset", task="tool_hang", episode=1)["observation"]["state"]
    turn = np.deg2rad(20)  # about the vertical axis
    sine, cosine = np.sin(turn), np.cos(turn)
    rows = (-sine, cosine, 0, cosine, sine, 0)
    target = begun[:3] + np.float32([-0.03, 0.05, 0.05])
    answer = pool.call(0, "step", actions=aim(target, np.multiply(scale, rows), 1, steps=40), frames=[40])
    state = answer["observations"][40]["state"]
    assert np.linalg.norm(state[:3] - target) < 0.005
    x, y, z, w = state[3:7]
    # The body that is measured is turned by 90 degrees about the gripper's axis against the site that is controlled.
    forward = np.array([1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)])
    assert np.dot(forward, (cosine, sine, 0)) > np.cos(np.deg2rad(2))
    assert state[7] < 0.005 < begun[7]  # positive closes


def test_rows_that_say_no_rotation_leave_the_orientation_as_it_was(pool):
    begun = pool.call(0, "reset", task="tool_hang", episode=2)["observation"]["state"]
    for rows in (np.zeros(6), (0, 0, 1, 0, 0, 1)):
        answer = pool.call(0, "step", actions=aim(begun[:3], rows, steps=10), frames=[10])
        state = answer["observations"][10]["state"]
        assert abs(np.dot(state[3:7], begun[3:7])) > 0.9999 and np.linalg.norm(state[:3] - begun[:3]) < 0.005


def test_it_is_solved_while_the_tool_hangs_on_the_frame(python):
    folders = [str(BENCHMARK.launch().module.parent), str(Path(vpolicy_worker.__file__).parents[1])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(python), "-c", SOLVED, *folders], env=environment, capture_output=True, encoding="utf-8")
    assert done.stdout.split() == ["True", "True"], done.stdout + done.stderr


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


def test_the_closeup_shows_the_same_physics_in_other_pictures(pool, python, tmp_path):
    closeup = BENCHMARK.closeup()
    here = pool.call(1, "reset", task="tool_hang", episode=7)
    with WorkerPool(closeup.launch(), python, 1, tmp_path, closeup.spaces()) as large:
        there = large.call(0, "reset", task="tool_hang", episode=7)
    assert there["initial_state"] == here["initial_state"]
    assert there["observation"]["images"]["sideview"].shape == (256, 256, 3)


def test_other_versions_than_declared_do_not_start(python, tmp_path):
    spec = BENCHMARK.launch()
    spec = spec.model_copy(update={"config": {**spec.config, "versions": {"mujoco": "3.3.0"}}})
    with (
        WorkerPool(spec, python, 1, tmp_path) as pool,
        pytest.raises(SimulationError, match=r"mujoco 3\.3\.0 is needed, this environment has 2\.3\.7"),
    ):
        pool.call(0, "hello")
