"""Initial states that a benchmark stores: none is used twice, and none by demonstrations and evaluation alike."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command import vpolicy
from toy_recipes import linear

from videopolicy.errors import RecipeError, SimulationError
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.simulators.workers import WorkerPool
from videopolicy.testing.toy_benchmark import ToyBenchmark


@pytest.fixture
def load(tmp_path: Path):
    path = tmp_path / "small.yaml"
    path.write_text(linear("episodes: 5, execute: 3"), encoding="utf-8")

    def load(**benchmark: object) -> Recipe:
        return load_recipe(path, [f"benchmark.{name}={value}" for name, value in benchmark.items()])

    return load


@pytest.mark.parametrize("command", [("check",), ("run",), ("run", "--dry-run"), ("data", "collect")])
def test_more_episodes_than_stored_states_are_an_error_of_every_command(load, tmp_path: Path, command) -> None:
    load(stored=5)
    done = vpolicy(tmp_path, *command, "small.yaml", "benchmark.stored=4", VPOLICY_HOME=str(tmp_path / "home"))
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and "Traceback" not in said
    assert "eval.episodes" in said and "benchmark 'toy' has 4 stored initial states for each" in said
    assert not (tmp_path / "home").exists() and not (tmp_path / "runs").exists()


def test_rows_of_an_ablation_are_checked_too(load, tmp_path: Path) -> None:
    rows = "base: small.yaml\nsource: N\nrows:\n- {name: Few, overrides: [benchmark.stored=3]}\n"
    (tmp_path / "rows.yaml").write_text(rows, encoding="utf-8")
    for command in (("check", "rows.yaml"), ("ablate", "rows.yaml"), ("ablate", "rows.yaml", "--dry-run")):
        done = vpolicy(tmp_path, *command, VPOLICY_HOME=str(tmp_path / "home"))
        assert done.returncode == 2 and "row 'Few'" in done.stderr and "3 stored initial states" in done.stderr


@pytest.mark.parametrize(
    ("stored", "states", "said"),
    [
        (20, [4, 9], "demonstrations begin in the stored states 4 to 8, and evaluation in the states 0 to 4"),
        (20, [0, 20], "Begin at 5, or evaluate fewer"),
        (8, [5, 9], r"\[5, 9\] is no range of stored states, first and last \+ 1; there are 0 to 8"),
        (8, [7, 5], r"\[7, 5\] is no range of stored states"),
        ("null", [5, 9], "there are none: it has no stored states"),
        (20, [5, 7], "3 attempts a task are needed, and benchmark.demonstrations_from has 2 states"),
    ],
)
def test_demonstrations_from_states_that_are_evaluated_or_are_not_there(load, stored, states, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load(stored=stored, demonstrations_from=states)


def test_states_of_their_own_are_fine(load) -> None:
    assert load(stored=8, demonstrations_from=[5, 8]).eval.episodes == 5
    assert load(stored=5).eval.episodes == 5


def test_a_simulator_has_no_state_beyond_them_and_experts_begin_where_they_are_let(tmp_path: Path) -> None:
    toy = ToyBenchmark(stored=6, demonstrations_from=(4, 6))
    with WorkerPool(toy.launch(), Path(sys.executable), 1, tmp_path, toy.spaces()) as pool:
        states = [pool.call(0, "reset", task="red", episode=e)["initial_state"] for e in range(6)]
        shown = [pool.call(0, "demonstrate", task="red", attempt=a, action_noise=0.0) for a in range(2)]
        assert [one["initial_state"] for one in shown] == states[4:]
        for call in (
            {"method": "reset", "task": "red", "episode": 6},
            {"method": "reset", "task": "red", "episode": -1},
            {"method": "demonstrate", "task": "red", "attempt": 2, "action_noise": 0.0},
        ):
            with pytest.raises(SimulationError, match="ValueError"):
                pool.call(0, **call)
