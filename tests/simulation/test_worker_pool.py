"""Workers that die, hang, raise or lie, and the pool that outlives them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from videopolicy.errors import SimulationError
from videopolicy.simulators import process as simulation
from videopolicy.simulators import sockets
from videopolicy.simulators.workers import WorkerPool
from videopolicy.testing.toy_benchmark import ToyBenchmark

PYTHON = Path(sys.executable)
STILL = np.zeros((5, 2), np.float32)


def pool_of(benchmark: ToyBenchmark, count: int, logs: Path) -> WorkerPool:
    return WorkerPool(benchmark.launch(), PYTHON, count, logs, benchmark.spaces())


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children() if "vpolicy_worker" in process.cmdline()}


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        alive = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
        if not alive:
            return True
        time.sleep(0.05)
    return False


def test_workers_answer_side_by_side_and_alike(tmp_path):
    with pool_of(ToyBenchmark(), 3, tmp_path) as pool:
        for index in range(3):
            pool.send(index, "reset", task="blue", episode=4)
        answers = {}
        while pool.outstanding:
            answers.update(pool.wait())
        assert sorted(answers) == [0, 1, 2]
        assert len({answer["initial_state"] for answer in answers.values()}) == 1
        np.testing.assert_array_equal(
            answers[0]["observation"]["images"]["top"], answers[2]["observation"]["images"]["top"]
        )
        assert pool.wait() == []
    assert not children()


def test_a_chunk_stops_at_the_limit_and_returns_only_the_frames_asked_for(tmp_path):
    with pool_of(ToyBenchmark(max_steps=7), 1, tmp_path) as pool:
        pool.call(0, "reset", task="red", episode=0)
        first = pool.call(0, "step", actions=STILL, frames=[2, 5])
        assert (first["steps"], sorted(first["observations"]), first["done"]) == (5, [2, 5], False)
        second = pool.call(0, "step", actions=STILL, frames=[2, 5])
        assert (second["steps"], sorted(second["observations"]), second["done"]) == (2, [2], True)


def test_a_worker_that_dies_is_reported_with_its_log_and_started_anew(tmp_path):
    benchmark = ToyBenchmark(dies_at=(1, 3), once=str(tmp_path / "once"))
    with pool_of(benchmark, 1, tmp_path) as pool:
        pool.call(0, "reset", task="red", episode=1)
        before = children()
        with pytest.raises(SimulationError, match=r"died during 'step' \(exit status 3\)") as caught:
            pool.call(0, "step", actions=STILL, frames=[])
        assert "worker-0.log" in caught.value.hint
        assert pool.call(0, "reset", task="red", episode=1)["initial_state"]
        assert children().isdisjoint(before)
        assert pool.call(0, "step", actions=STILL, frames=[])["steps"] == 5


def test_a_worker_killed_in_the_middle_of_an_episode_is_started_anew(tmp_path):
    benchmark = ToyBenchmark(hangs_at=(0, 2), once=str(tmp_path / "once"))
    with pool_of(benchmark, 2, tmp_path) as pool:
        for index in range(2):
            pool.send(index, "reset", task="red", episode=index)
        while pool.outstanding:
            pool.wait()
        pool.send(0, "step", actions=STILL, frames=[])
        while not (tmp_path / "once").exists():
            time.sleep(0.01)
        os.kill(pool._workers[0].process.pid, signal.SIGKILL)
        ((index, answer),) = pool.wait()
        assert index == 0 and isinstance(answer, SimulationError)
        assert "SIGKILL" in answer.message
        # The other worker has not noticed, and the killed one is back at the next call.
        assert pool.call(1, "step", actions=STILL, frames=[])["steps"] == 5
        pool.call(0, "reset", task="red", episode=0)
        assert pool.call(0, "step", actions=STILL, frames=[])["steps"] == 5


def test_a_hung_worker_times_out_and_shows_where_it_hung(tmp_path):
    with pool_of(ToyBenchmark(hangs_at=(0, 1), timeout=0.5), 1, tmp_path) as pool:
        pool.call(0, "reset", task="red", episode=0)
        pids = list(children())
        with pytest.raises(SimulationError, match=r"did not answer within 0\.5 s during 'step'") as caught:
            pool.call(0, "step", actions=STILL, frames=[])
        assert "_misbehave" in caught.value.message
        assert gone(pids)


def test_a_worker_that_cannot_even_end_itself_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "_GRACE", 0.3)
    with pool_of(ToyBenchmark(timeout=0.3), 1, tmp_path) as pool:
        pool.call(0, "reset", task="red", episode=0)
        pids = list(children())
        os.kill(pids[0], signal.SIGSTOP)
        with pytest.raises(SimulationError, match="did not answer"):
            pool.call(0, "step", actions=STILL, frames=[])
        assert gone(pids)


def test_an_exception_comes_back_with_its_traceback(tmp_path):
    with pool_of(ToyBenchmark(raises_at=(0, 2)), 1, tmp_path) as pool:
        pool.call(0, "reset", task="red", episode=0)
        with pytest.raises(SimulationError, match="raised in 'step': FloatingPointError: the toy broke") as caught:
            pool.call(0, "step", actions=STILL, frames=[])
        assert "toy_simulator.py" in caught.value.message


def test_other_spaces_than_declared_are_refused_naming_both(tmp_path):
    with (
        pool_of(ToyBenchmark(wrong_spaces=True), 1, tmp_path) as pool,
        pytest.raises(SimulationError, match="camera 'top' is 16x16 in the benchmark and 32x32 in the simulator"),
    ):
        pool.call(0, "hello")


def test_another_protocol_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "PROTOCOL", 99)
    with (
        pool_of(ToyBenchmark(), 1, tmp_path) as pool,
        pytest.raises(SimulationError, match="speaks protocol 1, the core speaks 99"),
    ):
        pool.call(0, "hello")


def test_what_keeps_a_simulator_from_starting_is_said(tmp_path):
    spec = ToyBenchmark().launch()
    missing = spec.model_copy(update={"module": tmp_path / "missing.py"})
    with WorkerPool(missing, PYTHON, 1, tmp_path) as pool, pytest.raises(SimulationError, match=r"missing\.py"):
        pool.call(0, "hello")
    with (
        WorkerPool(spec, tmp_path / "no-python", 1, tmp_path) as pool,
        pytest.raises(SimulationError, match="no-python") as caught,
    ):
        pool.call(0, "hello")
    assert "VPOLICY_TOY_PYTHON" in caught.value.hint


@pytest.fixture
def far_away(tmp_path, monkeypatch):
    """A folder for temporary files whose name is too long for a socket's."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_long_folder_for_temporary_files_has_no_sockets_in_it(tmp_path, far_away):
    with pool_of(ToyBenchmark(), 1, tmp_path) as pool:
        assert pool.call(0, "reset", task="red", episode=0)["initial_state"]
        assert list(far_away.iterdir()) == []
        place = pool._folder.ready()
    assert not place.exists()


def test_without_a_place_for_sockets_there_is_one_message(tmp_path, far_away, monkeypatch):
    monkeypatch.setattr(sockets, "_OTHERS", (str(tmp_path / "nowhere"),))
    with (
        pool_of(ToyBenchmark(), 1, tmp_path) as pool,
        pytest.raises(SimulationError, match=r"no place for the sockets .*is too long; .*nowhere") as caught,
    ):
        pool.call(0, "hello")
    assert "Set TMPDIR to a folder with a short name" in caught.value.hint


def test_a_cleaned_folder_for_temporary_files_is_made_again(tmp_path):
    with pool_of(ToyBenchmark(), 2, tmp_path / "logs") as pool:
        pool.call(0, "reset", task="red", episode=0)
        shutil.rmtree(pool._folder.ready())
        shutil.rmtree(tmp_path / "logs")
        assert pool.call(0, "step", actions=STILL, frames=[])["steps"] == 5
        assert pool.call(1, "reset", task="red", episode=0)["initial_state"]
        pool._workers[0].process.kill()
        with pytest.raises(SimulationError, match="SIGKILL"):
            pool.call(0, "step", actions=STILL, frames=[])
        assert pool.call(0, "reset", task="red", episode=0)["initial_state"]


def test_paths_of_the_shell_reach_a_simulator_only_on_purpose(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise ImportError('this numpy is of another Python')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pool_of(ToyBenchmark(), 1, tmp_path) as pool:
        assert pool.call(0, "hello")["simulator"] == "toy"
    monkeypatch.setenv("VPOLICY_SIMULATOR_PYTHONPATH", str(tmp_path))
    with pool_of(ToyBenchmark(), 1, tmp_path) as pool, pytest.raises(SimulationError, match="of another Python"):
        pool.call(0, "hello")


def test_a_simulator_that_does_not_start_says_what_the_shell_has_to_do_with_it(tmp_path, monkeypatch):
    module = tmp_path / "simulator.py"
    module.write_text("raise RuntimeError('no rendering backend works')\n")
    spec = ToyBenchmark().launch().model_copy(update={"module": module})
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    with WorkerPool(spec, PYTHON, 1, tmp_path) as pool, pytest.raises(SimulationError) as caught:
        pool.call(0, "hello")
    assert caught.value.hint.endswith(
        "Unset MUJOCO_GL (it is glfw), or set it to egl or osmesa: it chooses how to render."
    )
    monkeypatch.delenv("MUJOCO_GL")
    with WorkerPool(spec, PYTHON, 1, tmp_path) as pool, pytest.raises(SimulationError) as caught:
        pool.call(0, "hello")
    assert "set VPOLICY_SIMULATOR_LD_LIBRARY_PATH if the simulator needs it" in caught.value.hint


CORE = """
import signal, sys, time
from pathlib import Path
import numpy as np
from videopolicy.simulators.workers import WorkerPool
from videopolicy.testing.toy_benchmark import ToyBenchmark
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it would be ignored
benchmark = ToyBenchmark(hangs_at=(0, 1))
with WorkerPool(benchmark.launch(), Path(sys.executable), 2, Path(sys.argv[1])) as pool:
    for index in range(2):
        pool.call(index, "reset", task="red", episode=index)
    print(*[worker.process.pid for worker in pool._workers], flush=True)
    pool.send(0, "step", actions=np.zeros((3, 2), np.float32), frames=[])  # one hangs, one is idle
    pool.wait()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_behind_when_the_core_ends(tmp_path, how):
    core = subprocess.Popen([sys.executable, "-c", CORE, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pids = [int(pid) for pid in core.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.2)
    core.send_signal(how)
    core.communicate()
    assert gone(pids)
