"""Versions, renderer and conventions of the simulator are part of the protocol: what differs in them is never mixed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command import vpolicy
from machines import MACHINE, become, recipe_on_machines

from videopolicy.compare.comparison import compare
from videopolicy.console.progress import Reporter
from videopolicy.errors import SimulationError
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.recipes.recipe import load_recipe
from videopolicy.running import run
from videopolicy.simulators.answers import AnswerError, greeting
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.identity import digest
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store

EVALUATION = "episodes: 2, execute: 3, workers: 1, batch_size: 2"
NEWER = {**MACHINE["versions"], "mujoco": "3.9.0"}
OTHER_RENDERER = "osmesa, softpipe (software)"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return recipe_on_machines(tmp_path, EVALUATION)


def do(recipe: Path, *overrides: str, **options) -> RunFolder:
    store = Store(recipe.parent / "home")
    loaded = load_recipe(recipe, overrides)
    return RunFolder(run(loaded, recipe.parent / "runs", Reporter(quiet=True), store, **options))


def test_records_carry_what_the_simulator_says_of_itself_and_compare_says_what_differs(recipe, tmp_path):
    first = do(recipe, "name=first")
    identity = first.identity()
    assert identity.simulator.versions == MACHINE["versions"]
    assert {one.protocol for one in EpisodeLog(first.episodes_file).read()} == {digest(identity.whole_protocol)}
    become(tmp_path, versions=NEWER)
    do(recipe, "name=newer")
    become(tmp_path, rendering=OTHER_RENDERER, conventions={"image": "upside down"})
    do(recipe, "name=elsewhere")
    become(tmp_path)
    do(recipe, "name=again", "seed=1")
    found = compare([tmp_path / "runs"], trust=True)
    assert [[run.name for run in entry.runs] for entry in found.entries] == [["first", "again"]]
    apart = {one.name: one.reasons for one in found.set_apart}
    assert apart == {
        "newer": ("simulator_versions.mujoco: 3.9.0 instead of 3.1.0",),
        "elsewhere": (
            f"simulator_rendering: {OTHER_RENDERER} instead of {MACHINE['rendering']}",
            "simulator_conventions.image: upside down instead of upright",
        ),
    }


def test_a_run_does_not_go_on_under_another_simulator(recipe, tmp_path):
    first = do(recipe)
    lines = first.episodes_file.read_text().splitlines(keepends=True)
    first.episodes_file.write_text("".join(lines[:-1]))
    become(tmp_path, versions=NEWER, rendering=OTHER_RENDERER)
    done = vpolicy(tmp_path, "run", "small.yaml", VPOLICY_HOME=str(tmp_path / "home"))
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2 and "Traceback" not in said
    assert "simulator_versions.mujoco: 3.1.0 there, 3.9.0 here" in said
    assert f"simulator_rendering: {MACHINE['rendering']} there, {OTHER_RENDERER} here" in said
    assert "name=OTHER" in said and "MUJOCO_GL" in said
    assert first.episodes_file.read_text() == "".join(lines[:-1])
    become(tmp_path)
    do(recipe)
    assert len(first.episodes_file.read_text().splitlines()) == len(lines)


def test_episodes_from_before_it_was_recorded_are_not_mixed_in(recipe):
    first = do(recipe)
    lines = first.episodes_file.read_text().splitlines(keepends=True)
    first.episodes_file.write_text("".join(lines[:-1]))
    written = json.loads(first.identity_file.read_text())
    del written["simulator"]
    first.identity_file.write_text(json.dumps(written))
    with pytest.raises(SimulationError, match=r"simulator_versions\.mujoco: nothing there, 3\.1\.0 here"):
        do(recipe)


def test_where_nothing_was_finished_another_simulator_may_begin(recipe, tmp_path):
    first = do(recipe, "eval.episodes=1")
    records = EpisodeLog(first.episodes_file).read()
    broken = [one.model_copy(update={"error": "it died"}).model_dump_json() + "\n" for one in records]
    first.episodes_file.write_text("".join(broken))
    become(tmp_path, versions=NEWER)
    do(recipe, "eval.episodes=1")
    assert first.identity().simulator.versions == NEWER
    after = EpisodeLog(first.episodes_file).read()
    assert [one.error for one in after] == [None] * len(records)
    assert {one.protocol for one in after}.isdisjoint(one.protocol for one in records)


def test_a_worker_that_renders_otherwise_than_the_first_is_an_error(recipe, tmp_path):
    become(tmp_path, following={"rendering": OTHER_RENDERER})
    benchmark = load_recipe(recipe).benchmark
    with WorkerPool(benchmark.launch(), Path(sys.executable), 2, tmp_path / "logs", benchmark.spaces()) as pool:
        pool.call(0, "hello")
        with pytest.raises(SimulationError, match=r"simulator_rendering: osmesa.* instead of egl"):
            pool.call(1, "hello")
        assert pool.simulator.rendering == MACHINE["rendering"]


@pytest.mark.parametrize(
    "wrong", [{"rendering": 3}, {"conventions": ["upright"]}, {"conventions": {"image": object()}}, {"versions": None}]
)
def test_a_greeting_says_plain_things(recipe, wrong):
    hello = {"simulator": "toy", **MACHINE, "spaces": load_recipe(recipe).benchmark.spaces().model_dump()}
    assert greeting(hello).facts.conventions == {"image": "upright"}
    with pytest.raises(AnswerError, match=next(iter(wrong))):
        greeting({**hello, **wrong})
