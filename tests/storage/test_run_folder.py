"""The run folder as an interface: what is written is whole, and what is damaged is named, never taken for none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from videopolicy.compare.runs import read_measured_run
from videopolicy.console.progress import Reporter
from videopolicy.errors import StorageError
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord
from videopolicy.recipes.recipe import load_recipe
from videopolicy.running import _claim as claim
from videopolicy.running import run
from videopolicy.storage.files import locked, write_text, written_whole
from videopolicy.storage.provenance import Machine, Provenance, RunIdentity, StageFacts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.testing import toy_benchmark, toys

ROOT = Path(__file__).resolve().parents[2]
TORN = ("", "\0" * 40, '{"version": 1, "sta', "[]")


def test_what_is_written_is_what_is_read(tmp_path):
    folder = RunFolder(tmp_path / "run")
    stage = StageFacts(name="video", key="11aa", steps=3, final_losses={"video": 0.5}, processor_seconds=1.5)
    written = Provenance(name="run", machine=Machine(processor="a processor", cores=2)).with_stage(stage)
    folder.write_provenance(written)
    identity = RunIdentity(stages=("11aa", "22bb"), protocol={"simulator": "toy", "sizes": [1, 2]}, seed=3)
    folder.write_identity(identity)
    folder.write_recipe({"name": "run", "seed": 3})
    assert folder.provenance() == written
    assert folder.identity() == identity
    assert folder.recipe() == {"name": "run", "seed": 3}
    assert written.with_stage(stage.model_copy(update={"steps": 9})).stage("video").steps == 9
    assert len(written.with_stage(stage).stages) == 1


def test_what_is_missing_is_none(tmp_path):
    folder = RunFolder(tmp_path)
    assert (folder.provenance(), folder.identity(), folder.recipe()) == (None, None, {})
    with pytest.raises(StorageError, match="is no run folder"):
        folder.ensure_exists()


@pytest.mark.parametrize("text", TORN)
def test_a_damaged_file_is_named(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.identity_file.write_text(text)
    folder.provenance_file.write_text(text)
    for read, path in ((folder.identity, folder.identity_file), (folder.provenance, folder.provenance_file)):
        with pytest.raises(StorageError, match=re.escape(str(path))):
            read()


def test_a_file_of_a_later_version_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.provenance_file.write_text(json.dumps({"version": 2, "stages": {"video": {}}}))
    with pytest.raises(StorageError, match="version"):
        folder.provenance()


def test_an_error_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), written_whole(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_a_held_lock_is_refused_and_vanishes_with_its_process(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from videopolicy.storage.files import locked\n"
        f"with locked(Path({str(tmp_path)!r}), 'a thing'):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="Another process is working on a thing"), locked(tmp_path, "a thing"):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path, "a thing"):
        pass


@pytest.mark.parametrize("number", [38, 37, 95])
def test_a_disk_without_locks_is_done_without(tmp_path, monkeypatch, number):
    def fails(*arguments):
        raise OSError(number, "not here")

    monkeypatch.setattr("fcntl.flock", fails)
    refused = pytest.raises(StorageError, match="Another process is working on")
    with locked(tmp_path, "a thing"), refused, locked(tmp_path, "a thing"):
        pass
    with locked(tmp_path, "a thing"):
        pass


RECIPE = f"""\
plugins: [{toy_benchmark.__file__}, {toys.__file__}]
benchmark: {{type: toy, task_names: [red], max_steps: 6}}
data: {{type: robomimic-hdf5, episodes_per_task: 2}}
policy: {{type: toy}}
train:
  - {{name: policy, steps: 2, batch_size: 4}}
eval: {{episodes: 2, execute: 3, workers: 1, batch_size: 2}}
tracking: []
"""


@pytest.fixture
def recipe_of(tmp_path):
    def load(*overrides):
        path = tmp_path / "small.yaml"
        path.write_text(RECIPE, encoding="utf-8")
        return load_recipe(path, overrides)

    return load


def test_another_seed_never_joins_episodes_whose_identity_is_damaged(tmp_path, recipe_of):
    store, runs, quiet = Store(tmp_path / "home"), tmp_path / "runs", Reporter(quiet=True)
    folder = RunFolder(run(recipe_of(), runs, quiet, store))
    episodes, identity = folder.episodes_file.read_bytes(), folder.identity_file.read_text()
    with pytest.raises(StorageError, match="different: seed"):
        run(recipe_of("seed=1"), runs, quiet, store)
    with pytest.raises(StorageError, match="different: acting"):
        run(recipe_of("policy.horizon=5"), runs, quiet, store)
    with pytest.raises(StorageError, match="different: stages"):
        run(recipe_of("train.policy.steps=3"), runs, quiet, store)
    for text in TORN:
        folder.identity_file.write_text(text)
        with pytest.raises(StorageError, match=r"identity\.json"):
            run(recipe_of("seed=1"), runs, quiet, store)
    folder.identity_file.unlink()
    with pytest.raises(StorageError, match=r"identity\.json, which says of which policy, is missing"):
        run(recipe_of("seed=1"), runs, quiet, store)
    assert folder.episodes_file.read_bytes() == episodes
    # Restored, it goes on; what only tells times is started over, and said.
    folder.identity_file.write_text(identity)
    folder.provenance_file.write_text("{")
    run(recipe_of(), runs, quiet, store)
    assert folder.provenance().stage("policy").reused
    assert folder.episodes_file.read_bytes() == episodes


def test_the_weights_of_every_stage_that_acts_are_in_the_identity(tmp_path, recipe_of):
    """As a proposer of `model-guided`, which is no part of what the last stage trains."""
    recipe, folder = recipe_of(), RunFolder(tmp_path / "runs" / "small")
    claim(folder, recipe, ["a proposer", "the dynamics"])
    facts = {"success": True, "score": 1.0, "steps": 4, "seconds": 0.0, "initial_state": "", "protocol": ""}
    EpisodeLog(folder.episodes_file).append(EpisodeRecord(policy="trained", task="red", episode=0, **facts))
    claim(folder, recipe, ["a proposer", "the dynamics"])
    with pytest.raises(StorageError, match=r"different: stages\)"):
        claim(folder, recipe, ["another proposer", "the dynamics"])


def test_what_only_costs_time_makes_no_other_method(tmp_path):
    def method(name, **changes):
        folder = RunFolder(tmp_path / name)
        recipe = {
            "name": name,
            "seed": 0,
            "policy": {"width": 1},
            "tracking": [],
            "eval": {"episodes": 2, "workers": 1},
        }
        recipe["train"] = [{"name": "policy", "steps": 4, "data_workers": 0}]
        folder.write_recipe({**recipe, **changes})
        return read_measured_run(folder.path).method

    same = method("a")
    assert method("b", seed=1, eval={"workers": 4, "episodes": 2}, tracking=["tensorboard"]) == same
    assert method("c", train=[{"name": "policy", "steps": 4, "data_workers": 3}]) == same
    assert method("d", train=[{"name": "policy", "steps": 5, "data_workers": 0}]) != same
    assert method("e", policy={"width": 2}) != same
