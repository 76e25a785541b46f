from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vpolicy_worker import StepwiseSimulator


class Counter(StepwiseSimulator):
    """Adds up what it is told; solved while the sum is at least 3."""

    max_steps = 6

    def __init__(self) -> None:
        self.total = 0.0
        self.observed: list[float] = []
        self.begin()

    def advance(self, action: np.ndarray) -> bool:
        self.total += float(action[0])
        return self.total >= 3

    def observe(self, images: bool = True) -> dict[str, Any]:
        self.observed.append(self.total)
        return {"images": {}, "state": np.array([self.total], np.float32)}


def chunk(*actions: float) -> np.ndarray:
    return np.array(actions, np.float32)[:, None]


def test_only_the_wanted_observations_are_made():
    simulator = Counter()
    answer = simulator.step(chunk(0.5, 0.5, 0.5, 0.5), [2, 4, 9])
    assert {k: seen["state"].item() for k, seen in answer.pop("observations").items()} == {2: 1.0, 4: 2.0}
    assert simulator.observed == [1.0, 2.0]
    assert answer == {"steps": 4, "success": False, "score": 0.0, "done": False}


def test_success_ends_a_chunk_and_is_not_undone():
    simulator = Counter()
    answer = simulator.step(chunk(1, 2, -3, 1), [1, 2, 3])
    assert sorted(answer["observations"]) == [1, 2]
    assert (answer["steps"], answer["success"], answer["score"], answer["done"]) == (2, True, 1.0, True)
    simulator.take(np.array([-3.0]))  # what a demonstration goes on with
    assert simulator.success and simulator.step(chunk(1), [])["steps"] == 0


def test_the_step_limit_ends_a_chunk():
    simulator = Counter()
    assert simulator.step(chunk(0, 0, 0, 0), [])["done"] is False
    answer = simulator.step(chunk(0, 0, 0, 0), [4])
    assert (answer["steps"], answer["success"], answer["done"], answer["observations"]) == (2, False, True, {})
    simulator.begin()
    assert (simulator.steps, simulator.success, simulator.finished()) == (0, False, False)


def test_actions_that_are_not_finite_execute_nothing():
    simulator = Counter()
    with pytest.raises(ValueError, match="not finite"):
        simulator.step(chunk(1, np.nan), [])
    assert (simulator.steps, simulator.total) == (0, 0.0)
