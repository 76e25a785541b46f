"""The real simulator in its real environment, through the worker."""

from __future__ import annotations

import numpy as np
import pytest
from vpolicy_pusht.components import PushT

from videopolicy.errors import SimulationError
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool

pytestmark = [pytest.mark.simulator, pytest.mark.timeout(300)]

FIXED = PushT(image_size=96)
LIGHT_GREEN = (144, 238, 144)


@pytest.fixture(scope="module")
def python(environments):
    return interpreter(FIXED.launch(), environments)


@pytest.fixture(scope="module")
def opened(python, tmp_path_factory):
    """One worker for each way to configure the benchmark, kept for all tests."""
    pools = {}

    def ask(component, method, **arguments):
        if component not in pools:
            logs = tmp_path_factory.mktemp("logs")
            pools[component] = WorkerPool(component.launch(), python, 1, logs, component.spaces()).__enter__()
        return pools[component].call(0, method, **arguments)

    yield ask
    for pool in pools.values():
        pool.__exit__(None, None, None)


def begun(opened, episode, component=FIXED):
    return opened(component, "reset", task=component.tasks()[0].name, episode=episode)


def pixels(picture, color) -> int:
    return int((picture == np.array(color, np.uint8)).all(-1).sum())


def middle_of(picture, color) -> np.ndarray:
    """Mean (x, y) of the pixels of a color, in the plane's units."""
    rows, columns = np.nonzero((picture == np.array(color, np.uint8)).all(-1))
    return np.array([columns.mean(), rows.mean()]) * 512 / len(picture)


def test_episodes_begin_where_diffusion_policys_do(opened):
    """The draws of its `PushTEnv.reset` at seed 100000, in its order."""
    draw = np.random.RandomState(100_000)
    expected = [draw.randint(50, 450), draw.randint(50, 450)]
    assert begun(opened, 0)["observation"]["state"] == pytest.approx(expected)


def test_an_episode_is_the_same_whatever_a_worker_did_before(opened):
    def play(episode):
        first = begun(opened, episode)
        actions = np.random.default_rng(episode).uniform(0, 512, (20, 2)).astype(np.float32)
        last = opened(FIXED, "step", actions=actions, frames=[20])
        seen = last["observations"][20]
        return first["initial_state"], last["score"], seen["state"].tobytes(), seen["images"]["image"].tobytes()

    fresh, other = play(3), play(4)
    assert play(3) == fresh != other


def test_random_goals_are_the_episodes_own_and_fixed_ones_are_one(opened):
    def goal(component, episode):
        return middle_of(begun(opened, episode, component)["observation"]["images"]["image"], LIGHT_GREEN)

    many = PushT(goals="random", image_size=96)
    first, second, again = goal(many, 0), goal(many, 1), goal(many, 0)
    assert np.abs(first - second).max() > 20
    assert (first == again).all()
    hashes = {begun(opened, episode, many)["initial_state"] for episode in range(5)}
    assert len(hashes) == 5 and begun(opened, 0)["initial_state"] not in hashes


@pytest.mark.parametrize(
    "change", [{"background_color": (173, 216, 230)}, {"background_objects": 4}, {"goal_color": (255, 160, 122)}]
)
def test_disturbances_change_pictures_and_nothing_else(opened, change):
    disturbed = PushT(image_size=96, **change)
    actions = np.tile(np.float32([[256, 256]]), (5, 1))
    seen = []
    for component in (FIXED, disturbed):
        first = begun(opened, 2, component)
        seen.append((first, opened(component, "step", actions=actions, frames=[5])))
    (usual, after), (other, later) = seen
    assert usual["initial_state"] == other["initial_state"] and after["score"] == later["score"]
    assert (after["observations"][5]["state"] == later["observations"][5]["state"]).all()
    pictures = [first["observation"]["images"]["image"] for first in (usual, other)]
    assert (pictures[0] != pictures[1]).any(-1).mean() > 0.01
    for color, changed in ((LIGHT_GREEN, "goal_color"), ((255, 255, 255), "background_color")):
        assert (pixels(pictures[1], color) == 0) == (changed in change)


def test_pictures_are_upright_and_show_the_finger_where_the_state_says(opened):
    begun(opened, 0)
    answer = opened(FIXED, "step", actions=np.tile(np.float32([[100, 400]]), (20, 1)), frames=[20])
    seen = answer["observations"][20]
    picture = seen["images"]["image"].astype(int)
    rows, columns = np.nonzero(picture[..., 2] - picture[..., 0] > 90)
    assert np.array([columns.mean(), rows.mean()]) * 512 / 96 == pytest.approx(seen["state"], abs=8)


def test_the_score_is_the_largest_coverage_and_the_limit_ends_the_episode(opened):
    begun(opened, 1)
    answer = opened(FIXED, "step", actions=np.zeros((301, 2), np.float32), frames=[])
    assert (answer["steps"], answer["success"], answer["done"]) == (300, False, True)
    assert 0 <= answer["score"] < 1


def test_the_expert_covers_the_target_and_does_so_again(opened):
    shown = opened(FIXED, "demonstrate", task="pusht", attempt=8, action_noise=0.0)
    assert shown["success"] and len(shown["actions"]) < 150
    assert shown["images"]["image"].shape[1:] == (96, 96, 3) and len(shown["state"]) == len(shown["actions"])
    assert shown["actions"].min() >= 0 and shown["actions"].max() <= 512
    assert pixels(shown["images"]["image"][-1], LIGHT_GREEN) < 0.2 * pixels(shown["images"]["image"][0], LIGHT_GREEN)
    again = opened(FIXED, "demonstrate", task="pusht", attempt=8, action_noise=0.0)
    assert (again["actions"] == shown["actions"]).all()
    assert shown["initial_state"] not in {begun(opened, episode)["initial_state"] for episode in range(20)}


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("reset", {"task": "pusht-m", "episode": 0}, "there is no task 'pusht-m'"),
        ("reset", {"task": "pusht", "episode": 2**31}, "there is no episode 2147483648"),
        ("demonstrate", {"task": "pusht", "attempt": -1, "action_noise": 0.0}, "there is no attempt -1"),
    ],
)
def test_what_does_not_exist_is_an_error(opened, method, arguments, message):
    with pytest.raises(SimulationError, match=message):
        opened(FIXED, method, **arguments)


def test_other_versions_than_declared_do_not_start(python, tmp_path):
    spec = FIXED.launch()
    spec = spec.model_copy(update={"config": {**spec.config, "versions": {"pymunk": "7.0.0"}}})
    with (
        WorkerPool(spec, python, 1, tmp_path) as pool,
        pytest.raises(SimulationError, match=r"pymunk 7\.0\.0 is needed, this environment has 6\.11\.1"),
    ):
        pool.call(0, "hello")
