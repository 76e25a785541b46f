"""Units as jobs of submitit: by its local stand-in always, by a real Slurm where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
from toy_recipes import linear

from videopolicy.console.progress import Reporter
from videopolicy.errors import VpolicyError
from videopolicy.executors.choosing import executor_from
from videopolicy.executors.slurm_engine import SlurmExecutor
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.recipes.recipe import load_recipe
from videopolicy.running import run
from videopolicy.storage.store import Store

pytest.importorskip("submitit", reason="the extra 'slurm' is not installed")

RECIPE = linear("episodes: 4, execute: 3, workers: 1, batch_size: 2", tasks="red")


def records(folder: Path) -> list[dict]:
    found = [record.model_dump(exclude={"seconds"}) for record in EpisodeLog(folder / "episodes.jsonl").read()]
    return sorted(found, key=lambda record: (record["policy"], record["task"], record["episode"]))


def compare(folder: Path, executor: SlurmExecutor) -> None:
    path = folder / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    store, quiet = Store(folder / "home"), Reporter(quiet=True)
    cut = run(load_recipe(path, ["name=cut"]), folder / "runs", quiet, store, executor)
    whole = run(load_recipe(path, ["name=whole"]), folder / "runs", quiet, store)
    assert len(records(cut)) == 4
    assert records(cut) == records(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_that_dies_is_sent_again(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    executor = SlurmExecutor(tmp_path / "home" / "slurm", None, 0, 1.0, shards=2, cluster="local")
    submit, died = executor._submit, []

    def submit_and_lose_one(units):
        jobs = submit(units)
        if not died and units and units[0].title.startswith("evaluate"):
            unit, job = next(iter(jobs.items()))
            family = [job._process, *psutil.Process(job._process.pid).children(recursive=True)]
            for process in family:
                process.kill()
            died.append(unit)
        return jobs

    executor._submit = submit_and_lose_one
    compare(tmp_path, executor)
    assert len(died) == 1


class Lost:
    title, devices = "lost", 1


def test_without_slurm_there_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    executor = executor_from("slurm", store=Store(tmp_path))
    with pytest.raises(VpolicyError, match="Slurm takes no jobs here") as caught:
        next(iter(executor.map([Lost()], Reporter(quiet=True))))
    assert "where `sbatch` works" in caught.value.hint


def test_only_whole_gpus():
    with pytest.raises(VpolicyError, match="whole GPUs only"):
        executor_from("slurm", gpus_per_unit=0.5)


def answers() -> bool:
    return shutil.which("sbatch") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not answers(), reason="no Slurm answers here: sbatch is missing, or its controller is not running")
def test_a_real_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    compare(tmp_path, SlurmExecutor(tmp_path / "home" / "slurm", None, 0, 1.0, shards=2))
