"""The real simulator in its real environment, through the worker; only where VPOLICY_CALVIN_SOURCE names a checkout."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest
from vpolicy_calvin.components import Calvin
from vpolicy_calvin.simulator import chains

from videopolicy.errors import SimulationError
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool

pytestmark = [
    pytest.mark.simulator,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.environ.get("VPOLICY_CALVIN_SOURCE"),
        reason="VPOLICY_CALVIN_SOURCE names no checkout of mees/calvin_env",
    ),
]

BENCHMARK = Calvin(preset="D_D", rendering="tiny")


@pytest.fixture(scope="module")
def pool(environments, tmp_path_factory):
    python = interpreter(BENCHMARK.launch(), environments)
    logs = tmp_path_factory.mktemp("logs")
    with WorkerPool(BENCHMARK.launch(), python, 2, logs, BENCHMARK.spaces(), longest=1800) as pool:
        pool.start()
        yield pool


def test_a_chain_begins_in_its_official_state_whatever_was_before(pool):
    robot, _ = chains.numbers(chains.chains()[3].state)
    begun = pool.call(0, "reset", task="chain_of_5", episode=3)
    assert begun["subtasks"] == list(chains.chains()[3].tasks)
    assert begun["instruction"] == {task.name: task.instruction for task in BENCHMARK.subtasks()}[begun["subtasks"][0]]
    assert np.abs(begun["observation"]["state"][7:14] - robot[7:14]).max() < 0.01
    images = begun["observation"]["images"]
    assert {name: image.shape for name, image in images.items()} == {
        "rgb_static": (200, 200, 3),
        "rgb_gripper": (84, 84, 3),
    }
    assert all(20 < image.mean() < 235 and image.std() > 20 for image in images.values())
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 7)).astype(np.float32)
    there = pool.call(0, "step", actions=actions, frames=[40])
    for task, episode in (("chain_of_5", 8), ("chain_of_5", 3)):  # the same process has done something else
        again = pool.call(0, "reset", task=task, episode=episode, images=False)
        pool.call(0, "step", actions=actions[::-1], frames=[])
    again = pool.call(0, "reset", task="chain_of_5", episode=3, images=False)
    assert again["initial_state"] == begun["initial_state"] and again["observation"]["images"] == {}
    here = pool.call(0, "step", actions=actions, frames=[40])
    other = pool.call(1, "reset", task="chain_of_5", episode=3, images=False)
    elsewhere = pool.call(1, "step", actions=actions, frames=[40])
    assert other["initial_state"] == begun["initial_state"]
    for answer in (here, elsewhere):
        seen, expected = answer["observations"][40], there["observations"][40]
        assert np.array_equal(seen["state"], expected["state"])
        assert np.array_equal(seen["images"]["rgb_static"], expected["images"]["rgb_static"])


def test_a_task_has_360_steps_and_the_first_failure_ends_the_chain(pool):
    pool.call(0, "reset", task="chain_of_5", episode=0, images=False)
    still = np.zeros((361, 7), np.float32)
    answer = pool.call(0, "step", actions=still, frames=[])
    assert (answer["steps"], answer["done"], answer["success"], answer["solved"]) == (360, True, False, [])
    with pytest.raises(SimulationError, match="there are 1000 chains, there is no chain 1000"):
        pool.call(0, "reset", task="chain_of_5", episode=1000)


def test_a_demonstration_is_solved_again_by_its_actions_and_holds_what_calvins_files_do(pool):
    shown = pool.call(1, "demonstrate", task="turn_on_led", attempt=0, action_noise=0.0)
    count = len(shown["actions"])
    assert shown["success"] and 10 < count < 120 and shown["facts"]["expert"] == "scripted"
    assert shown["instruction"] in BENCHMARK.launch().config["taught"]["turn_on_led"]
    assert shown["states"].shape == (count, 39) and shown["arrays"]["absolute_actions"].shape == (count, 7)
    assert np.array_equal(shown["arrays"]["absolute_actions"][:-1, :6], shown["states"][1:, :6])
    assert set(np.unique(shown["actions"][:, 6])) <= {-1.0, 1.0} and np.abs(shown["actions"]).max() <= 1
    assert shown["states"][0, 20] == 0 and shown["states"][-1, 20] == 1  # the LED
    again = pool.call(0, "demonstrate", task="turn_on_led", attempt=0, action_noise=0.0)
    assert np.array_equal(again["images"]["rgb_static"], shown["images"]["rgb_static"])
    noisy = pool.call(0, "demonstrate", task="turn_on_led", attempt=0, action_noise=0.1)
    assert noisy["success"] and noisy["initial_state"] == shown["initial_state"]
    assert not np.array_equal(noisy["states"][:10], shown["states"][:10])


def test_what_a_task_needs_is_done_before_it_begins(pool):
    shown = pool.call(1, "demonstrate", task="stack_block", attempt=0, action_noise=0.0)
    begin, end = shown["states"][0], shown["states"][-1]
    assert shown["success"] and begin[14] == -1 and begin[6] > 0.01  # something is in the closed hand
    assert max(end[17 + 6 * block] for block in range(3)) < 0.52
    reset = pool.call(0, "reset", task="place_in_drawer", episode=0, images=False)
    assert reset["observation"]["state"][14] == -1 and reset["observation"]["state"][6] > 0.01


def test_what_has_no_expert_or_does_not_exist_is_said(pool):
    with pytest.raises(SimulationError, match="there is no expert for 'dance'"):
        pool.call(0, "demonstrate", task="dance", attempt=0, action_noise=0.0)
    with pytest.raises(SimulationError, match="there is no task 'open_door'"):
        pool.call(0, "reset", task="open_door", episode=0)
    assert Counter(chains.chains()[0].tasks).total() == 5


def test_the_greeting_says_what_results_depend_on(pool):
    greeting = pool.call(0, "hello")
    assert greeting["versions"]["calvin_env"] == "797142c588c2" and greeting["versions"]["pybullet"] == "3.2.7"
    assert greeting["rendering"] == "TinyRenderer (software)"
    assert greeting["conventions"]["blocks"] == ["block_red", "block_blue", "block_pink"]
