"""Units carried out in this process: what they return, put together, is what a run without them ends with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from machines import become, recipe_on_machines
from toy_recipes import linear
from typer.testing import CliRunner

from videopolicy.cli.main import app
from videopolicy.console.progress import Reporter
from videopolicy.data.preparation import prepare_data
from videopolicy.errors import SimulationError, VpolicyError
from videopolicy.executors.choosing import executor_from
from videopolicy.executors.cluster import ClusterExecutor, ExecutionError
from videopolicy.executors.units import EvaluationUnit, StageUnit, Workplace, perform, recipe_text
from videopolicy.executors.waves import train_all
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.running import run
from videopolicy.storage.identity import code_behind
from videopolicy.storage.store import Store
from videopolicy.testing import toys
from videopolicy.training.planning import plan

RECIPE = linear("episodes: 5, execute: 3, workers: 1, batch_size: 2")


class Apart(ClusterExecutor):
    """Like another machine, as far as a run can tell."""

    name = "apart"

    def __init__(self, shards: int = 1, lose: tuple[str, ...] = ()) -> None:
        super().__init__(shards)
        self.lose, self.sent = lose, []

    def map(self, units, reporter):
        for unit in units:
            self.sent.append(unit)
            if unit.title.startswith(self.lose):
                from videopolicy.executors.units import Outcome

                yield Outcome(unit, error=ExecutionError("the node is gone", "Look after the node."))
            else:
                yield perform(unit)


@pytest.fixture
def recipe_in(tmp_path: Path):
    def load(*overrides: str) -> Recipe:
        path = tmp_path / "small.yaml"
        path.write_text(RECIPE, encoding="utf-8")
        return load_recipe(path, overrides)

    return load


def records(folder: Path) -> list[dict]:
    found = [record.model_dump(exclude={"seconds"}) for record in EpisodeLog(folder / "episodes.jsonl").read()]
    return sorted(found, key=lambda record: (record["policy"], record["task"], record["episode"]))


@pytest.fixture
def quiet() -> Reporter:
    return Reporter(quiet=True)


@pytest.mark.slow
def test_units_end_with_the_records_of_a_run_without_them(tmp_path, recipe_in, quiet):
    store = Store(tmp_path / "home")
    whole = run(recipe_in("name=whole"), tmp_path / "runs", quiet, store)
    executor = Apart(shards=6)
    # A unit lost for good: one clear message, and what the others have brought is kept.
    executor.lose = ("evaluate trained on blue, episodes 2 to 3",)
    with pytest.raises(ExecutionError, match=r"1 of 6 units failed\. evaluate trained on blue, episodes 2 to 3: the"):
        run(recipe_in("name=cut"), tmp_path / "runs", quiet, store, executor)
    assert len(records(tmp_path / "runs" / "cut")) == 8
    first = {unit.id for unit in executor.sent}
    executor.lose, executor.sent = (), []
    cut = run(recipe_in("name=cut"), tmp_path / "runs", quiet, store, executor)
    assert [unit.episodes for unit in executor.sent] == [(2, 3)]
    assert {unit.id for unit in executor.sent} < first
    assert len({record["initial_state"] for record in records(cut)}) == 10
    assert records(cut) == records(whole)
    for path in (whole / "trajectories").rglob("*.npy"):
        assert np.array_equal(np.load(path), np.load(cut / path.relative_to(whole)))
    assert len(list((cut / "logs" / "units").glob("*.log"))) == 6


def test_what_rows_share_is_trained_once(tmp_path, recipe_in, quiet):
    executor = Apart()
    recipes = [recipe_in("name=a"), recipe_in("name=b", "eval.episodes=3"), recipe_in("name=c", "train.policy.steps=5")]
    trained = train_all(recipes, Store(tmp_path / "home"), executor, quiet)
    assert sorted(facts.steps for facts in trained.values()) == [4, 5]
    assert len(executor.sent) == 2
    for facts in trained.values():
        assert facts.devices == 1 and not facts.accelerator and facts.device
    assert train_all(recipes, Store(tmp_path / "home"), executor, quiet) == {}


def test_a_stage_that_fails_leaves_the_others(tmp_path, recipe_in, quiet):
    recipes = [recipe_in("name=bad", "train.policy.optimizer={learning_rate: 1.0e+30}", "seed=1"), recipe_in("name=b")]
    store = Store(tmp_path / "home")
    with pytest.raises(ExecutionError, match=r"1 of 2 units failed\. train policy \(\w+\): Stage 'policy' diverged"):
        train_all(recipes, store, Apart(), quiet)
    assert len(list(store.root.glob("stages/*/done.json"))) == 1


def test_a_node_without_the_shared_folder_says_so(tmp_path, recipe_in, quiet):
    home = tmp_path / "home"
    home.mkdir()
    text = Workplace.here(Store(home))
    unit = EvaluationUnit(text, RECIPE + "name: a\n", "run", ("nothing",), "trained", "red", 0, 2, (0, 1))
    with pytest.raises(ExecutionError, match="has no trained stage 'policy'") as caught:
        list(Apart().succeeded([unit], tmp_path / "logs", quiet))
    assert "Set VPOLICY_HOME to a folder that all nodes share." in caught.value.hint
    home.rmdir()
    assert "has no folder" in perform(unit).error.message


def test_a_node_with_other_code_does_nothing(tmp_path, monkeypatch, quiet):
    parts = tmp_path / "parts.py"
    parts.write_text(Path(toys.__file__).read_text())
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE.replace(toys.__file__, str(parts)))
    recipe, store = load_recipe(path), Store(tmp_path / "home")
    dataset, _ = prepare_data(recipe, store, quiet)
    (planned,) = plan(recipe, dataset, store)
    unit = StageUnit(Workplace.here(store), recipe_text(recipe), "policy", planned.key)
    parts.write_text(
        "# a remark\n" + Path(toys.__file__).read_text().replace("horizon=self.horizon", "horizon=1 * self.horizon")
    )
    error = perform(unit, quiet).error
    assert "has other data or other code than the driver" in error.message
    assert "Install the same code everywhere" in error.hint
    assert planned.facts is None
    parts.write_text("# a remark\n" + Path(toys.__file__).read_text())
    assert perform(unit, quiet).value.key == planned.key
    # It evaluates nothing either: here the simulator's code is another.
    code = code_behind(recipe.components(), recipe.registry)
    unit = EvaluationUnit(
        Workplace.here(store), recipe_text(recipe), "r", (planned.key,), "random", "red", 0, 1, (0,), code
    )
    monkeypatch.setattr("videopolicy.storage.identity.simulator_identity", lambda spec: {"simulator_code": "another"})
    assert "has other code than the driver" in perform(unit, quiet).error.message
    monkeypatch.undo()
    assert len(perform(unit, quiet).value.records) == 1


def test_nothing_more_is_sent_where_all_units_fail(tmp_path, recipe_in, quiet):
    executor = Apart(lose=("evaluate",))
    with pytest.raises(ExecutionError, match="3 of 20 units failed"):
        units = [
            EvaluationUnit(Workplace.here(Store(tmp_path)), RECIPE, "run", (), "trained", "red", n, n + 1, (n,))
            for n in range(20)
        ]
        list(executor.succeeded(units, tmp_path / "logs", quiet))
    assert len(executor.sent) == 3


def test_nodes_whose_simulators_differ_are_never_mixed(tmp_path, quiet):
    path = recipe_on_machines(tmp_path, "episodes: 4, execute: 3, workers: 1, batch_size: 2")
    recipe, store, runs = load_recipe(path), Store(tmp_path / "home"), tmp_path / "runs"
    prepare_data(recipe, store, quiet)
    become(tmp_path, following={"rendering": "osmesa"})  # the first node, and the others
    with pytest.raises(SimulationError, match=r"simulator_rendering: egl.* there, osmesa here") as caught:
        run(recipe, runs, quiet, store, executor=Apart(shards=2))
    assert caught.value.exit_code == 2 and "MUJOCO_GL" in caught.value.hint
    assert [one["episode"] for one in records(runs / "small")] == [0, 1]
    with pytest.raises(ExecutionError, match=r"simulator_rendering: egl.* there, osmesa here"):  # said by the node
        run(recipe, runs, quiet, store, executor=Apart(shards=2))
    become(tmp_path)
    run(recipe, runs, quiet, store, executor=Apart(shards=2))
    assert [one["episode"] for one in records(runs / "small")] == [0, 1, 2, 3]
    assert len({one["protocol"] for one in records(runs / "small")}) == 1


def test_an_id_says_what_is_run_and_not_what_is_left_of_it(tmp_path):
    here = Workplace.here(Store(tmp_path))
    whole = EvaluationUnit(here, RECIPE, "run", (), "trained", "red", 0, 4, (0, 1, 2, 3))
    rest = EvaluationUnit(here, RECIPE, "run", (), "trained", "red", 0, 4, (3,))
    others = [
        EvaluationUnit(here, RECIPE, run_id, (), policy, task, first, 4, (3,))
        for run_id, policy, task, first in [
            ("other", "trained", "red", 0),
            ("run", "random", "red", 0),
            ("run", "trained", "blue", 0),
            ("run", "trained", "red", 2),
        ]
    ]
    assert whole.id == rest.id
    assert len({whole.id, *(unit.id for unit in others)}) == 5


def test_options_of_another_engine_are_refused():
    with pytest.raises(VpolicyError, match="--address means nothing with --executor slurm"):
        executor_from("slurm", address="somewhere:6379")
    with pytest.raises(VpolicyError, match="--shards means nothing with --executor local") as caught:
        executor_from(shards=3)
    assert caught.value.hint == "Leave it out, or add --executor ray or --executor slurm."


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_that_is_not_installed_is_named(monkeypatch, name, package):
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None if wanted == package else object())
    with pytest.raises(VpolicyError, match=f"needs the package '{package}', which is not installed") as caught:
        executor_from(name)
    assert f"Install videopolicy[{name}]" in caught.value.hint


def test_the_options_are_told():
    told = CliRunner().invoke(app, ["run", "--help"]).output
    for option in ("--executor", "--shards", "--address", "--gpus-per-unit", "--partition", "--hours"):
        assert option in told
