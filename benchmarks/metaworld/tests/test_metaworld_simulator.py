"""The real simulator in its real environment, through the worker."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from vpolicy_metaworld.components import MetaWorld

from videopolicy.errors import SimulationError
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool

pytestmark = [pytest.mark.simulator, pytest.mark.timeout(300)]

BENCHMARK = MetaWorld(image_size=64, rendering="fast", cameras=("corner4", "topview"), max_steps=120)


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
    actions = np.random.default_rng(episode).uniform(-1, 1, (30, 4)).astype(np.float32)
    begun = pool.call(worker, "reset", task=task, episode=episode)
    answer = pool.call(worker, "step", actions=actions, frames=[10, 30])
    seen = [begun["observation"], *answer["observations"].values()]
    return begun["initial_state"], [fingerprint(observation) for observation in seen]


def cyan_finger(image: np.ndarray) -> np.ndarray:
    """Mean (row, column) of the pixels of the gripper's cyan finger."""
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    found = np.argwhere((green - red > 60) & (blue - red > 60))
    assert len(found)
    return found.mean(0)


@pytest.mark.parametrize("task", ["drawer-close-v3", "door-open-v3", "pick-place-v3"])
def test_an_episode_is_the_same_to_the_last_bit_in_a_fresh_and_a_used_worker(pool, task):
    fresh = play(pool, 0, task, 3)
    pool.call(1, "demonstrate", task=task, attempt=1, action_noise=0.3)
    other = play(pool, 1, task, 0)
    assert play(pool, 1, task, 3) == fresh
    assert play(pool, 0, task, 3) == fresh
    assert other != fresh


def test_demonstrations_and_evaluation_share_no_initial_state(pool):
    task = "coffee-button-v3"  # the expert's quickest
    evaluation = {pool.call(0, "reset", task=task, episode=i, images=False)["initial_state"] for i in range(10)}
    shown = {
        pool.call(0, "demonstrate", task=task, attempt=attempt, action_noise=0.1)["initial_state"]
        for attempt in range(2)
    }
    assert len(evaluation) == 10 and len(shown) == 2 and not evaluation & shown


def test_pictures_are_upright_and_not_mirrored(pool):
    def moved(direction):
        begun = pool.call(0, "reset", task="reach-v3", episode=0)
        actions = np.tile(np.float32([*direction, -1]), (12, 1))
        after = pool.call(0, "step", actions=actions, frames=[12])["observations"][12]
        hand = after["state"][:3] - begun["observation"]["state"][:3]
        assert hand @ np.float32(direction) > 0.05  # the hand really went there
        return cyan_finger(after["images"]["corner4"]) - cyan_finger(begun["observation"]["images"]["corner4"])

    assert moved((0, 0, 1))[0] < -3  # up is up
    assert moved((0, 1, 0))[1] > 1  # away from the robot is right: it stands on the left
    # Seen from above, the red arm reaches up into the picture from its base at the lower edge.
    picture = pool.call(0, "reset", task="reach-v3", episode=0)["observation"]["images"]["topview"].astype(int)
    red = picture[..., 0] - picture[..., 1:].max(-1) > 60
    assert red[-16:].sum() > 3 * red[:16].sum()


def test_the_expert_solves_a_task_and_its_episode_ends_soon_after(pool):
    shown = pool.call(0, "demonstrate", task="drawer-close-v3", attempt=0, action_noise=0.1)
    count = len(shown["actions"])
    assert shown["success"] and 20 < count < 120
    assert shown["images"]["corner4"].shape == (count, 64, 64, 3) and shown["state"].shape == (count, 4)
    assert np.abs(shown["actions"]).max() <= 1
    drawer_moved = np.abs(shown["images"]["corner4"][0].astype(int) - shown["images"]["corner4"][-1]).max()
    assert drawer_moved > 50


def test_doing_nothing_fails_at_the_step_limit(pool):
    pool.call(1, "reset", task="drawer-close-v3", episode=0, images=False)
    answer = pool.call(1, "step", actions=np.zeros((200, 4), np.float32), frames=[])
    assert (answer["steps"], answer["success"], answer["done"]) == (120, False, True)


def test_actions_that_are_not_numbers_are_an_error(pool):
    pool.call(0, "reset", task="drawer-close-v3", episode=0, images=False)
    with pytest.raises(SimulationError, match="actions are not finite"):
        pool.call(0, "step", actions=np.full((1, 4), np.nan, np.float32), frames=[])


def test_the_closeup_shows_the_same_physics_in_other_pictures(pool, python, tmp_path):
    closeup = BENCHMARK.closeup()
    here = pool.call(1, "reset", task="drawer-close-v3", episode=7)
    with WorkerPool(closeup.launch(), python, 1, tmp_path, closeup.spaces()) as large:
        there = large.call(0, "reset", task="drawer-close-v3", episode=7)
    assert there["initial_state"] == here["initial_state"]
    assert there["observation"]["images"]["corner4"].shape == (256, 256, 3)


def test_other_versions_than_declared_are_refused(python, tmp_path):
    spec = BENCHMARK.launch()
    spec = spec.model_copy(update={"config": {**spec.config, "versions": {"mujoco": "2.3.7"}}})
    with (
        WorkerPool(spec, python, 1, tmp_path) as pool,
        pytest.raises(SimulationError, match=r"mujoco 2\.3\.7 is needed, this environment has 3\.3\.0"),
    ):
        pool.call(0, "hello")
