"""``kill -9`` at any moment, then the same command: it goes on, and ends with the records of a run left alone."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from command import vpolicy

from videopolicy.storage.run_folder import RunFolder


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def again(runner: Any) -> None:
    """Give a finished run again, in this process."""
    done = vpolicy(runner.folder, "run", str(runner.recipe), VPOLICY_HOME=str(runner.folder / "home"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_killed_in_every_phase(uninterrupted: Any, tmp_path: Path, runner_in: Any) -> None:
    runner = runner_in(tmp_path / "killed")
    home = tmp_path / "killed" / "home"
    phases: dict[str, Callable[[], bool]] = {
        "data": lambda: len(list((home / "datasets").rglob("*"))) > 6,
        "stage 1": lambda: any(home.glob("stages/*/checkpoint.ckpt")),
        "features": lambda: any(home.glob("features/*")),
        "stage 2": lambda: any(
            not path.with_name("done.json").exists() and any(home.glob("features/*/done.json"))
            for path in home.glob("stages/*/checkpoint.ckpt")
        ),
        "evaluation": lambda: lines(runner.run_folder / "episodes.jsonl") >= 3,
        "baselines": lambda: lines(runner.run_folder / "episodes.jsonl") >= 14,
    }
    for phase, reached in phases.items():
        process = runner.start()
        deadline = time.monotonic() + 200
        while not reached():
            assert process.poll() is None, f"ended before {phase}: {runner.output()}"
            assert time.monotonic() < deadline, f"never reached {phase}: {runner.output()}"
            time.sleep(0.005)
        workers = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive, f"workers outlived the core in {phase}: {alive}"
    runner.finish()
    assert runner.records() == uninterrupted.records()
    for record in runner.records():
        assert record["error"] is None


def test_a_finished_run_does_nothing_again(uninterrupted: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.folder.rglob("*.safetensors")}
    episodes = (uninterrupted.run_folder / "episodes.jsonl").read_bytes()
    uninterrupted.finish()
    assert before == {path: path.stat().st_mtime_ns for path in uninterrupted.folder.rglob("*.safetensors")}
    assert episodes == (uninterrupted.run_folder / "episodes.jsonl").read_bytes()
    assert "train video: done earlier (40 steps" in uninterrupted.output()


def test_a_finished_run_loads_no_model_while_its_pictures_are_there(
    uninterrupted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from videopolicy.training import stages

    loaded = []
    load = stages.load_policy
    monkeypatch.setattr(stages, "load_policy", lambda *args: loaded.append(True) or load(*args))
    videos = uninterrupted.run_folder / "videos"
    picture = next(videos.glob("*-prediction.png"))

    def loads() -> int:
        loaded.clear()
        again(uninterrupted)
        return len(loaded)

    loads()
    assert loads() == 0
    picture.unlink()
    assert loads() == 1 and picture.exists()
    (videos / "made_from.json").write_text("[")
    assert loads() == 1
    assert loads() == 0


def test_a_finished_run_writes_no_report_while_the_one_that_is_there_shows_it(uninterrupted: Any) -> None:
    run, page = RunFolder(uninterrupted.run_folder), uninterrupted.run_folder / "report.html"

    def written() -> bool:
        before = page.stat().st_ino
        again(uninterrupted)
        return page.stat().st_ino != before

    again(uninterrupted)
    finished, whole = run.provenance().finished, page.read_bytes()
    assert not written() and run.provenance().finished == finished
    page.write_bytes(whole[:-1])
    assert written() and page.stat().st_size >= len(whole) - 100
    run.curves_file.unlink()
    assert not written()  # written as it was, from the stages
    assert not any(stage.reused for stage in run.provenance().stages), "this run has trained them"


def test_no_episode_begins_where_a_demonstration_began(uninterrupted: Any) -> None:
    assert "0 of 30 episodes began in the initial state of a demonstration" in uninterrupted.output()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [3])
def test_the_number_of_workers_changes_nothing(uninterrupted: Any, workers: int, runner_in: Any) -> None:
    uninterrupted.finish(f"eval.workers={workers}", f"name=workers-{workers}")
    other = uninterrupted.run_folder.parent / f"workers-{workers}"
    runner = runner_in(uninterrupted.folder)
    expected = runner.records()
    runner.run_folder = other
    assert runner.records() == expected


@pytest.mark.slow
def test_batch_mates_change_nothing(uninterrupted: Any, runner_in: Any) -> None:
    """Half of the episodes, then the rest: every episode meets other mates than in the whole run."""
    uninterrupted.finish("eval.episodes=2", "name=mates")
    runner = runner_in(uninterrupted.folder)
    runner.run_folder = uninterrupted.run_folder.parent / "mates"
    few = {(r["policy"], r["task"], r["episode"]): r for r in runner.records()}
    many = {(r["policy"], r["task"], r["episode"]): r for r in uninterrupted.records()}
    assert len(few) == 12
    assert all(many[key] == record for key, record in few.items() if key[1] == "red")


def test_another_seed_is_refused_in_the_same_folder(uninterrupted: Any) -> None:
    home = str(uninterrupted.folder / "home")
    done = vpolicy(uninterrupted.folder, "run", str(uninterrupted.recipe), "seed=1", VPOLICY_HOME=home)
    assert done.returncode == 2
    assert "different: seed" in done.stdout + done.stderr
    assert "Traceback" not in uninterrupted.output() + done.stdout + done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 2), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_says_how_to_go_on(tmp_path: Path, runner_in: Any, number: int, code: int) -> None:
    runner = runner_in(tmp_path / "interrupted")
    process = runner.start()
    deadline = time.monotonic() + 200
    while not any((tmp_path / "interrupted" / "home").glob("stages/*/checkpoint.ckpt")):
        assert process.poll() is None and time.monotonic() < deadline, runner.output()
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    assert process.wait(60) == code, runner.output()
    assert "Run the same command again to go on." in runner.output()
    assert "Traceback" not in runner.output()
