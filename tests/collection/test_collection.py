"""Collection is exact: for any number of workers, and however often it was killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from videopolicy.console.progress import Reporter
from videopolicy.contracts.benchmark import DemonstrationRequest
from videopolicy.data.collection import _episode, collect
from videopolicy.errors import SimulationError
from videopolicy.simulators.workers import WorkerPool
from videopolicy.testing.toy_benchmark import ToyBenchmark


class FolderWriter:
    """The smallest honest writer: a file an attempt, moved into place when it is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def present(self):
        found: dict[str, dict[int, bool]] = {}
        for path in self.folder.glob("*.json"):
            facts = json.loads(path.read_text())
            found.setdefault(facts["task"], {})[facts["attempt"]] = facts["success"]
        return found

    def add(self, episode):
        path = self.folder / f"{episode.task}-{episode.attempt}.json"
        assert not path.exists(), "an attempt was made twice"
        content = hashlib.sha256(episode.actions.tobytes())
        for image in episode.images.values():
            content.update(image.tobytes())
        facts = {name: getattr(episode, name) for name in ("task", "attempt", "success", "initial_state")}
        part = path.with_suffix(".part")
        part.write_text(json.dumps({**facts, "content": content.hexdigest()}))
        part.rename(path)

    def finish(self, chosen):
        (self.folder / "chosen").write_text(json.dumps(chosen))
        return self.folder

    def result(self):
        chosen = json.loads((self.folder / "chosen").read_text())
        return {
            (task, attempt): json.loads((self.folder / f"{task}-{attempt}.json").read_text())["content"]
            for task, attempts in chosen.items()
            for attempt in attempts
        }


def gather(folder: Path, workers: int, wanted: int = 5, **options):
    writer = FolderWriter(folder)
    request = DemonstrationRequest(episodes_per_task=wanted, action_noise=0.2)
    benchmark = ToyBenchmark(task_names=("red", "blue"), **options)
    logs = folder.with_name(folder.name + "-logs")
    return writer, collect(benchmark, request, writer, Path(sys.executable), workers, logs, Reporter(quiet=True))


def test_the_first_successes_are_kept_whatever_the_number_of_workers(tmp_path):
    one, collected = gather(tmp_path / "one", 1)
    three, _ = gather(tmp_path / "three", 3)
    assert collected.episodes == {"red": 5, "blue": 5}
    assert one.result() == three.result()
    # The expert fails attempt 3; it is remembered, and nothing superfluous was tried.
    for writer in (one, three):
        assert writer.present()["red"] == {0: True, 1: True, 2: True, 3: False, 4: True, 5: True}


def test_a_finished_collection_starts_no_simulator(tmp_path):
    gather(tmp_path / "data", 2)
    _, again = gather(tmp_path / "data", 2, dies_at=(0, 1))
    assert again.steps == 0 and again.episodes == {"red": 5, "blue": 5}


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_collection
add = test_collection.FolderWriter.add
def slowly(self, episode):
    add(self, episode)
    time.sleep(0.1)
test_collection.FolderWriter.add = slowly
test_collection.gather(Path(sys.argv[2]), 3, wanted=12)
"""


def test_it_goes_on_exactly_after_kill_9(tmp_path):
    whole, _ = gather(tmp_path / "whole", 2, wanted=12)
    folder = tmp_path / "killed"
    for after in (4, 11):
        core = subprocess.Popen([sys.executable, "-c", KILLED, str(Path(__file__).parent), str(folder)])
        while len(list(folder.glob("*.json"))) < after:
            assert core.poll() is None
            time.sleep(0.02)
        os.kill(core.pid, signal.SIGKILL)
        core.wait()
        assert not (folder / "chosen").exists()
    killed, _ = gather(folder, 2, wanted=12)
    assert killed.result() == whole.result()


def test_a_worker_that_dies_once_changes_nothing(tmp_path):
    plain, _ = gather(tmp_path / "plain", 2)
    shaken, _ = gather(tmp_path / "shaken", 2, dies_at=(2, 2), once=str(tmp_path / "once"))
    assert (tmp_path / "once").exists()
    assert shaken.result() == plain.result()


def test_an_attempt_on_which_workers_die_twice_has_failed(tmp_path):
    writer, collected = gather(tmp_path / "data", 2, dies_at=(2, 2))
    assert writer.present()["red"] == {0: True, 1: True, 2: False, 3: False, 4: True, 5: True, 6: True}
    assert collected.episodes["red"] == 5


def test_an_expert_that_fails_too_often_is_an_error(tmp_path):
    # The dot needs more than two steps to any square.
    with pytest.raises(SimulationError, match=r"task '(red|blue)' solved 0 of 20 attempts; 2 episodes are wanted"):
        gather(tmp_path / "data", 2, wanted=2, max_steps=2)


def test_a_simulator_that_does_not_start_is_an_error_at_once(tmp_path):
    with pytest.raises(SimulationError, match="offers other spaces"):
        gather(tmp_path / "data", 2, wrong_spaces=True)
    assert not FolderWriter(tmp_path / "data").present()


def test_states_and_facts_reach_the_writer(tmp_path, monkeypatch):
    seen = {}
    add = FolderWriter.add

    def kept(self, episode):
        seen[episode.task, episode.attempt] = episode
        add(self, episode)

    monkeypatch.setattr(FolderWriter, "add", kept)
    gather(tmp_path / "data", 2, wanted=2)
    for (task, _), episode in seen.items():
        assert episode.states.shape == (len(episode.actions), 10) and episode.states.dtype == np.float64
        np.testing.assert_allclose(episode.states[:, :2], episode.state, atol=1e-6)
        assert episode.facts == {"expert": "scripted", "color": task}


def test_an_expert_is_a_program_and_may_name_its_sentence():
    task = ToyBenchmark().tasks()[0]
    answer = {"images": {}, "actions": np.zeros((1, 2)), "state": None, "initial_state": "a", "success": True}
    plain = _episode(task, 0, answer)
    assert (plain.facts, plain.states, plain.instruction) == ({"expert": "scripted"}, None, task.instruction)
    named = _episode(task, 0, {**answer, "instruction": "go there", "facts": {"expert": "learned"}})
    assert (named.facts, named.instruction) == ({"expert": "learned"}, "go there")


def test_demonstrations_and_evaluation_share_no_initial_state(tmp_path):
    benchmark = ToyBenchmark()
    with WorkerPool(benchmark.launch(), Path(sys.executable), 1, tmp_path) as pool:
        for task in ("red", "green"):
            evaluation = {pool.call(0, "reset", task=task, episode=i)["initial_state"] for i in range(20)}
            shown = {
                pool.call(0, "demonstrate", task=task, attempt=i, action_noise=0.0)["initial_state"] for i in range(20)
            }
            assert len(evaluation) == len(shown) == 20 and not evaluation & shown


def test_noise_moves_the_robot_but_not_the_recorded_action(tmp_path):
    benchmark = ToyBenchmark()
    with WorkerPool(benchmark.launch(), Path(sys.executable), 1, tmp_path) as pool:
        plain = pool.call(0, "demonstrate", task="red", attempt=0, action_noise=0.0)
        noisy = pool.call(0, "demonstrate", task="red", attempt=0, action_noise=0.5)
    assert plain["initial_state"] == noisy["initial_state"]
    np.testing.assert_array_equal(plain["actions"][0], noisy["actions"][0])
    assert np.abs(plain["state"][:4] - noisy["state"][:4]).max() > 1e-3
