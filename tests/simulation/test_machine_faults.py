"""A machine that breaks is no failure of a policy: evaluation stops, and what it could not finish is tried again."""

from __future__ import annotations

import json
from pathlib import Path

import moody_benchmark
import pytest
from command import vpolicy
from toy_recipes import linear

from videopolicy.console.progress import Reporter
from videopolicy.errors import EvaluationStoppedError, SimulationError
from videopolicy.executors.cluster import ClusterExecutor, ExecutionError
from videopolicy.executors.units import perform
from videopolicy.recipes.recipe import load_recipe
from videopolicy.running import run
from videopolicy.storage.store import Store


@pytest.fixture(autouse=True)
def no_films(monkeypatch: pytest.MonkeyPatch) -> None:
    """Films of episodes take most of the time of runs this small."""
    monkeypatch.setattr("videopolicy.running._picture", lambda *_: None)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of eight episodes on a machine that is sound while there is no file ``trouble``."""
    text = linear("episodes: 4, execute: 3, workers: 2, batch_size: 4")
    text = text.replace("plugins: [", f"plugins: [{moody_benchmark.__file__}, ")
    text = text.replace("{type: toy, task", f"{{type: moody, trouble: {tmp_path / 'trouble'}, task")
    path = tmp_path / "moody.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def lines(folder: Path, name: str) -> list[dict]:
    """Every line of a run's log without wall times, sorted."""
    found = [json.loads(line) for line in (folder / "runs" / name / "episodes.jsonl").read_text().splitlines()]
    for record in found:
        del record["seconds"]
    return sorted(found, key=lambda record: (record["policy"], record["task"], record["episode"]))


@pytest.mark.slow
def test_a_simulator_that_is_down_ends_the_evaluation_and_not_the_episodes(tmp_path, recipe):
    trouble, home = tmp_path / "trouble", {"VPOLICY_HOME": str(tmp_path / "home")}
    whole = vpolicy(tmp_path, "run", str(recipe), "name=whole", **home)
    assert whole.returncode == 0, whole.stderr
    trouble.touch()
    broken = vpolicy(tmp_path, "run", str(recipe), "name=broken", **home)
    assert broken.returncode == 3
    assert "The evaluation of 'trained' stopped: 3 episodes in a row ended in errors" in broken.stderr
    assert "the graphics driver has gone" in broken.stderr and "Traceback" not in broken.stderr.split("  | ")[0]
    assert broken.stderr.strip().splitlines()[-1].endswith("those that ended in errors are tried again.")
    recorded = lines(tmp_path, "broken")
    assert [record["error"] for record in recorded].count(None) >= 1
    assert len([record for record in recorded if record["error"]]) >= 3
    # Still down: nothing is done earlier, and nothing is lost.
    again = vpolicy(tmp_path, "run", str(recipe), "name=broken", **home)
    assert again.returncode == 2 and "evaluate: done earlier" not in again.stderr
    assert "the graphics driver has gone" in again.stderr
    trouble.unlink()
    repaired = vpolicy(tmp_path, "run", str(recipe), "name=broken", **home)
    assert repaired.returncode == 0, repaired.stderr
    assert lines(tmp_path, "broken") == lines(tmp_path, "whole")
    assert all(record["error"] is None and record["score"] < -1 for record in lines(tmp_path, "broken"))
    assert "evaluate: done earlier (8 episodes)" in vpolicy(tmp_path, "run", str(recipe), "name=broken", **home).stderr


class Apart(ClusterExecutor):
    """Like other machines, as far as a run can tell."""

    name = "apart"

    def map(self, units, reporter):
        for unit in units:
            yield perform(unit, reporter)


@pytest.mark.slow
def test_units_on_machines_that_are_down_are_tried_again_too(tmp_path, recipe, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store, quiet, trouble = Store(tmp_path / "home"), Reporter(quiet=True), tmp_path / "trouble"
    run(load_recipe(recipe, ("name=whole",)), tmp_path / "runs", quiet, store)
    trouble.touch()
    # The first unit's machine breaks on the way, those of the others cannot even begin.
    with pytest.raises((EvaluationStoppedError, ExecutionError)) as caught:
        run(load_recipe(recipe, ("name=cut",)), tmp_path / "runs", quiet, store, Apart(shards=2))
    assert "ended in errors of the simulator" in str(caught.value) or "the graphics driver" in str(caught.value)
    recorded = lines(tmp_path, "cut")
    assert [record["error"] for record in recorded].count(None) == 1
    trouble.unlink()
    run(load_recipe(recipe, ("name=cut",)), tmp_path / "runs", quiet, store, Apart(shards=2))
    assert lines(tmp_path, "cut") == lines(tmp_path, "whole")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("endless", "The simulator does not end an episode of 'red' after its 12 steps"),
        ("silent", "sent a wrong answer to 'step': 'done' is missing"),
    ],
)
def test_a_simulator_that_breaks_the_contract_is_no_failed_episode(tmp_path, recipe, monkeypatch, kind, reason):
    monkeypatch.chdir(tmp_path)
    store, quiet, trouble = Store(tmp_path / "home"), Reporter(quiet=True), tmp_path / "trouble"
    trouble.touch()
    with pytest.raises(EvaluationStoppedError) as caught:
        run(load_recipe(recipe, (f"benchmark.fault={kind}", "eval.workers=1")), tmp_path / "runs", quiet, store)
    assert reason in caught.value.message and caught.value.exit_code == 3
    assert [record["success"] for record in lines(tmp_path, "moody") if record["error"]] == [False] * 3


def test_collecting_on_a_machine_that_is_down_makes_no_attempt_a_failed_one(tmp_path, recipe, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quiet, trouble = Reporter(quiet=True), tmp_path / "trouble"
    trouble.touch()
    with pytest.raises(SimulationError, match="exit status 9"):
        run(load_recipe(recipe), tmp_path / "runs", quiet, Store(tmp_path / "home"))
    trouble.unlink()
    folders = [
        run(load_recipe(recipe, (f"name={name}",)), tmp_path / "runs", quiet, Store(tmp_path / home))
        for name, home in (("after", "home"), ("whole", "other"))
    ]
    keys = [json.loads((folder / "identity.json").read_text())["stages"] for folder in folders]
    assert keys[0] == keys[1]  # they name the content of the data
    assert lines(tmp_path, "after") == lines(tmp_path, "whole")
