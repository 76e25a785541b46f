"""``vpolicy store`` on stores made by hand: what it says, what it finds damaged, and what it removes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from videopolicy.cli.main import app
from videopolicy.console.progress import Reporter
from videopolicy.errors import StorageError
from videopolicy.recipes.recipe import load_recipe
from videopolicy.running import run
from videopolicy.storage import inventory
from videopolicy.storage.files import locked
from videopolicy.storage.store import Store
from videopolicy.testing import toy_benchmark, toys

DAYS = 86400


@pytest.fixture(autouse=True)
def own_temporary_files(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the system's folder, killed processes of other tests leave behind what `list` says and `prune` removes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two runs: both need the data and one stage; a second stage and its features are one's own, a third nobody's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    store = Store()
    stage("shared", store)
    stage("own", store)
    stage("nobodys", store)
    features = finished(store, "features", "cached", {"windows": 12}, "features.npy")
    Store.note_uses(store.root / "stages" / "own", [features])
    episodes = {"pick": 3, "place": 3}
    data = finished(store, "datasets", "data", {"episodes": episodes, "type": "files", "benchmark": "toy"}, "a.h5")
    finished(store, "environments", "thing-1", {"environment": "thing", "python": "3.11"}, "pyvenv.cfg")
    run_folder(tmp_path / "runs" / "first", ["shared"], "data")
    run_folder(tmp_path / "elsewhere" / "second", ["shared", "own"], "data")
    needs = [store.root / "stages" / "shared", store.root / "stages" / "own" / "weights.safetensors", data]
    store.note_run(tmp_path / "elsewhere" / "second", "second", [*needs, tmp_path / "outside"])
    (store.root / "logs").mkdir()
    (store.root / "logs" / "unit.log").write_text("a" * 3000)
    for path in store.root.rglob("done.json"):
        aged(path, 3)
    return store


def finished(store: Store, kind: str, key: str, facts: dict, file: str) -> Path:
    folder = store.folder(kind, key)
    (folder / file).write_bytes(key.encode() * 1000)
    store.finish(folder, facts, hashed=kind != "environments")
    return folder


def stage(key: str, store: Store) -> Path:
    facts = {"name": "policy", "target": "policy.extractor.backbone", "steps": 20000}
    return finished(store, "stages", key, facts, "weights.safetensors")


def run_folder(folder: Path, stages: list[str], data: str) -> None:
    folder.mkdir(parents=True)
    facts = {"name": folder.name, "stages": [{"name": key, "key": key} for key in stages], "data": {"key": data}}
    (folder / "provenance.json").write_text(json.dumps(facts))


def aged(path: Path, days: float) -> None:
    then = time.time() - days * DAYS
    os.utime(path, (then, then))


def command(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["store", *arguments])
    if isinstance(result.exception, StorageError):
        assert code == result.exception.exit_code
        return f"{result.output}{result.exception}"
    assert result.exit_code == code, result.output
    return result.output


def kept(store: Store) -> set[str]:
    return {f"{path.parent.parent.name}/{path.parent.name}" for path in store.root.glob("*/*/done.json")}


def test_list_says_what_is_there_and_for_whom(store: Store):
    lines = command("list").splitlines()
    assert max(len(line) for line in lines[:-1]) <= 80
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "shared policy: policy.extractor.backbone, 6.25 kB 3 d second, first" in text
    assert "nobodys policy: policy.extractor.backbone, 7.25 kB 3 d no run" in text
    assert "cached 12 windows 6.17 kB 3 d second" in text
    assert "data toy files 6 episodes" in text
    assert "thing-1 thing, Python 3.11" in text
    assert "logs: 3 kB" in text
    assert lines[-1].startswith("6 artifacts, ") and lines[-1].endswith("; no known run needs 2 of them")


def test_verify_names_what_is_damaged_or_missing_and_ends_with_two(store: Store):
    (store.root / "environments" / "thing-1" / "bin").mkdir()
    (store.root / "environments" / "thing-1" / "bin" / "python").touch()
    assert "undamaged: 6" in command("verify", "--quiet")
    weights = store.root / "stages" / "own" / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"?")
    (store.root / "datasets" / "data" / "a.h5").unlink()
    (store.root / "stages" / "nobodys" / "hashes.json").unlink()
    (store.root / "environments" / "thing-1" / "bin" / "python").unlink()
    told = command("verify", "--quiet", code=2)
    assert "stages/own: weights.safetensors is not what was written" in told
    assert "datasets/data: a.h5 is missing" in told
    assert "environments/thing-1: its interpreter is not on this machine" in told
    assert "undamaged: 2; for 1 no hashes were recorded" in told
    assert "3 artifacts of 6 damaged." in told and f"rm -r {store.root}/stages/own" in told
    assert "(first, second)" in told


def test_prune_shows_and_removes_nothing_unless_told(store: Store):
    before = kept(store)
    told = command("prune")
    assert "stages" in told and "nobodys" in told and "thing-1" in told and "shared" not in told
    assert "Nothing was removed; add --yes" in told
    assert kept(store) == before
    told = command("prune", "--yes")
    assert "2 artifacts removed" in told
    assert before - kept(store) == {"stages/nobodys", "environments/thing-1"}
    assert "Nothing to remove" in command("prune", "--yes")
    assert "nobodys" not in command("list")


def test_prune_follows_runs_that_are_gone_or_have_moved(store: Store, tmp_path: Path):
    shutil.move(tmp_path / "elsewhere", tmp_path / "moved")
    assert "stages/own" not in " ".join(command("prune", "--runs", "moved").split())
    command("prune", "--runs", "moved", "--runs", "runs", "--yes")
    assert {"stages/own", "features/cached", "stages/shared"} <= kept(store)
    shutil.rmtree(tmp_path / "moved")
    command("prune", "--yes")
    assert kept(store) == {"stages/shared", "datasets/data"}
    assert list((store.root / "runs").iterdir()) == []


def test_prune_leaves_what_is_young_unfinished_or_in_use(store: Store):
    young = store.folder("stages", "young")
    (young / "checkpoint.pt").write_text("half")
    Store.used(store.root / "stages" / "nobodys")
    with locked(store.root / "environments" / "other", "something"):
        assert command("prune", "--yes").count("removed") == 1  # the environment alone
    assert "stages/nobodys" in kept(store) and young.is_dir()
    for path in (young / "checkpoint.pt", young, store.root / "stages" / "nobodys" / "done.json"):
        aged(path, 2)
    holding = "import sys; from pathlib import Path; from videopolicy.storage.files import locked\n"
    holding += "with locked(Path(sys.argv[1]), 'a stage'): print('held', flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", holding, str(young)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        for path in (young / ".lock", young):
            aged(path, 2)
        told = command("prune", "--yes")
        assert "1 artifact removed" in told and "1 in use and left" in told
        assert (young / "checkpoint.pt").is_file()
        process.communicate()
    assert "1 artifact removed" in command("prune", "--yes")
    assert not (young / "checkpoint.pt").exists()


def test_a_stage_that_a_run_begins_with_is_needed(store: Store, tmp_path: Path):
    recipe = f"train:\n  - {{name: policy, init_from: {store.root / 'stages' / 'nobodys'}}}\n"
    (tmp_path / "runs" / "first" / "recipe.yaml").write_text(recipe)
    assert "nobodys" not in command("prune")


def test_what_a_killed_prune_leaves_is_not_taken_for_finished(store: Store, monkeypatch: pytest.MonkeyPatch):
    (store.root / "stages" / "nobodys" / "curves").mkdir()
    aged(store.root / "stages" / "nobodys" / "done.json", 3)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inventory.shutil, "rmtree", killed)
    (artifact,) = [one for one in inventory.artifacts(store, [], {}) if one.key == "nobodys"]
    with pytest.raises(KeyboardInterrupt):
        inventory.prune(store, artifact, 1.0, [])
    assert Store.finished(artifact.folder) is None


def test_what_somebody_began_to_need_meanwhile_is_left(store: Store, tmp_path: Path):
    (artifact,) = [one for one in inventory.artifacts(store, [], {}) if one.key == "nobodys"]
    store.note_run(tmp_path / "runs" / "first", "first", [artifact.folder])
    assert not inventory.prune(store, artifact, 1.0, [])
    assert Store.finished(artifact.folder) is not None


def test_nothing_is_pruned_beside_a_run_that_cannot_be_read(store: Store, tmp_path: Path):
    path = tmp_path / "runs" / "first" / "provenance.json"
    before, whole = kept(store), path.read_text()
    for text in ("", "[]", '{"stages": 3}', "{"):
        path.write_text(text)
        told = command("prune", "--yes", code=2)
        assert "nothing is removed" in told and "provenance.json" in told and kept(store) == before
        command("list")
    path.write_text(whole)
    (note,) = (store.root / "runs").iterdir()
    note.write_text('{"run": 3')
    assert f"{note} is damaged" in " ".join(command("prune", "--yes", code=2).split()) and kept(store) == before


@pytest.mark.parametrize("text", ["", "[]", "3", "null"])
def test_a_damaged_mark_is_listed_and_found(store: Store, text: str):
    path = store.root / "stages" / "own" / "done.json"
    path.write_text(text)
    assert "own its done.json is damaged" in " ".join(command("list").split())
    assert f"{path} is damaged" in command("verify", "--quiet", code=2)


def test_what_is_left_over_is_listed_and_pruned(store: Store):
    for folder in ("own", "nobodys"):
        (store.root / "stages" / folder / "checkpoint.ckpt").write_bytes(bytes(4000))
    assert "left over: checkpoints of finished stages (2), 8 kB" in command("list")
    assert "Nothing was removed" in command("prune")
    command("prune", "--yes")
    assert "left over" not in command("list")
    assert "stages/own" in kept(store)


@pytest.mark.parametrize("verb", ["list", "verify", "prune"])
def test_bad_input_has_one_clear_message(store: Store, verb: str, monkeypatch: pytest.MonkeyPatch):
    assert "There is no folder nowhere.\nName a folder of run folders" in command(verb, "--runs", "nowhere", code=2)
    monkeypatch.setenv("VPOLICY_HOME", str(store.root / "nothing"))
    told = command(verb, code=2)
    assert f"There is no store in {store.root / 'nothing'}." in told and "set VPOLICY_HOME" in told
    assert not (store.root / "nothing").exists()


def test_help_tells_the_verbs():
    told = CliRunner().invoke(app, ["store", "--help"]).output
    assert all(verb in told for verb in ("list", "verify", "prune"))


RECIPE = f"""\
plugins: [{toy_benchmark.__file__}, {toys.__file__}]
benchmark: {{type: toy, task_names: [red], max_steps: 12}}
data: {{type: robomimic-hdf5, episodes_per_task: 2}}
policy: {{type: toy}}
train:
  - {{name: policy, steps: 4, batch_size: 4}}
eval: {{episodes: 1, execute: 3, workers: 1, batch_size: 1}}
tracking: []
"""


@pytest.mark.slow
def test_a_store_and_a_run_folder_work_where_they_were_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "small.yaml").write_text(RECIPE)
    folder = run(load_recipe(tmp_path / "small.yaml"), tmp_path / "runs", Reporter(quiet=True), Store(tmp_path / "a"))
    keys = kept(Store(tmp_path / "a"))
    assert {name.partition("/")[0] for name in keys} == {"stages", "datasets"}
    shutil.move(tmp_path / "a", tmp_path / "b")
    shutil.copytree(folder.parent, tmp_path / "copied")
    shutil.rmtree(folder.parent)
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "b"))
    assert "undamaged: 2" in command("verify", "--quiet")
    assert "small" in command("list", "--runs", "copied")
    assert "Nothing to remove" in command("prune", "--days", "0", "--yes", "--runs", "copied")
    # The copied recipe runs to the same end, and nothing is made again.
    copied = tmp_path / "copied" / "small"
    before = (copied / "episodes.jsonl").read_text()

    def made() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "b").rglob("*.safetensors")}

    weights = made()
    run(load_recipe(copied / "recipe.yaml"), tmp_path / "copied", Reporter(quiet=True))
    assert (copied / "episodes.jsonl").read_text() == before
    assert made() == weights and len(weights) == 1
    facts = json.loads((copied / "provenance.json").read_text())
    assert [one["reused"] for one in facts["stages"]] == [False], "the run has trained it itself, not an earlier one"
    assert kept(Store()) == keys
    for verb in ("show", "report"):
        result = CliRunner().invoke(app, [verb, str(copied)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
