"""What the conformance kit finds wrong in a simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from videopolicy.components.plugins import file_plugin
from videopolicy.components.registry import Registry
from videopolicy.testing import run_contract, toy_benchmark

BENCHMARK = """
from pathlib import Path
from typing import Literal

from videopolicy.testing.toy_benchmark import ToyBenchmark


class Faulty(ToyBenchmark):
    type: Literal["faulty"] = "faulty"
    fault: str

    def launch(self):
        spec = super().launch()
        config = {**spec.config, "fault": self.fault}
        module = Path(MODULE)
        return spec.model_copy(update={"module": module, "simulator": "Faulty", "config": config})
"""
SIMULATOR = """
import sys

import numpy as np

sys.path.insert(0, TOYS)
from toy_simulator import ToySimulator


class Faulty(ToySimulator):
    def __init__(self, fault, **options):
        super().__init__(**options)
        self.fault = fault

    def reset(self, task, episode, images=True):
        return super().reset(task, episode % self.stored if self.fault == "wraps" else episode, images)

    def step(self, actions, frames):
        answer = super().step(actions, frames)
        if self.fault == "silent":
            del answer["done"]
        if self.fault == "not a number":
            answer["score"] = float("nan")
        return answer

    def finished(self):
        return self.success if self.fault == "endless" else super().finished()

    def demonstrate(self, task, attempt, action_noise):
        if self.fault == "without experts":
            raise NotImplementedError("no experts")
        found = super().demonstrate(task, 0 if self.fault == "repeats itself" else attempt, action_noise)
        if self.fault == "unable":
            found["success"] = False
        if self.fault == "remembers":
            found["initial_state"] = super().reset(task, attempt + 3)["initial_state"]
        if self.fault == "blank":
            found["images"]["top"] = found["images"]["top"].astype(np.float32) / 255
        return found
"""
FOUND = {
    "silent": "sent a wrong answer to 'step': 'done' is missing",
    "not a number": "sent a wrong answer to 'step': 'score' is nan, not a finite number",
    "endless": "`step` does not say `done` after the 30 steps of task 'red'",
    "unable": "The expert of task 'red' solved none of 5 attempts",
    "remembers": "Demonstration 0 of task 'red' begins in the state of evaluation episode 3",
    "repeats itself": "Demonstrations 0 and 1 of task 'red' begin in the same state",
    "blank": "the picture of camera 'top' in the demonstration is",
}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    module = tmp_path / "simulator.py"
    module.write_text(f"TOYS = {str(Path(toy_benchmark.__file__).parent)!r}\n{SIMULATOR}", encoding="utf-8")
    plugin = tmp_path / "faulty.py"
    plugin.write_text(f"MODULE = {str(module)!r}\n{BENCHMARK}", encoding="utf-8")
    return Registry([file_plugin(plugin)])


@pytest.mark.parametrize("fault", FOUND)
def test_a_faulty_simulator_is_found(registry: Registry, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    assert run_contract("benchmark", "faulty", {"fault": fault}, registry) == 1
    said = capsys.readouterr().out
    assert FOUND[fault] in said and "Traceback" not in said


@pytest.mark.parametrize("fault", ["wraps", "none"])
def test_stored_states_that_are_used_twice_are_found(registry, capsys, fault: str) -> None:
    options = {"fault": fault, "stored": 7, "demonstrations_from": [2, 7]}
    assert run_contract("benchmark", "faulty", options, registry) == (fault == "wraps")
    said = capsys.readouterr().out
    assert ("`stored_states` is 7, and `reset` has a state for episode 7 of task 'red'" in said) == (fault == "wraps")


@pytest.mark.parametrize(("fault", "skipped"), [("none", False), ("without experts", True)])
def test_a_sound_one_passes(registry: Registry, capsys: pytest.CaptureFixture[str], fault: str, skipped: bool) -> None:
    assert run_contract("benchmark", "faulty", {"fault": fault}, registry) == 0
    assert ("This benchmark has no experts." in capsys.readouterr().out) == skipped
