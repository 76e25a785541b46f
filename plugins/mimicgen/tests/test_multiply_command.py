"""``vpolicy data multiply`` on the toy benchmark: exact, resumable, and clear about sources that will not do."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest
from command import vpolicy
from derived_demonstrations import digests, elsewhere, failing, kill_behind_three, lacking, source, stateless
from toy_recipes import linear

SPEC = """
type: mimicgen
episodes_per_task: 4
sources: 2
tasks:
  red: [{object: red, noise: 0.2}]
  blue: [{object: blue, selection: nearest-object}]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multiply")
    (folder / "toy.yaml").write_text(linear("episodes: 0, workers: 1"))
    (folder / "spec.yaml").write_text(SPEC)
    return folder


def multiply(home: Path, output: str, *arguments: str, spec: str = "spec.yaml"):
    command = ("data", "multiply", "toy.yaml", *arguments, "--by", spec, "-o", output, "--quiet")
    return vpolicy(home, *command, VPOLICY_HOME=str(home / "store"))


@pytest.fixture(scope="module")
def whole(home: Path) -> Path:
    ended = multiply(home, "whole")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    # Attempts begin behind those of the sources, 0 to 2; the toy fails its attempt 3.
    assert lines[0] == "red: 4 of 5 attempts succeeded (0.80, 95 % 0.38 to 0.96)"
    assert lines[-1] == "8 episodes of 2 tasks in whole"
    return home / "whole"


def test_what_was_made_says_of_what(home: Path, whole: Path):
    facts = json.loads((whole / "multiplied.json").read_text())
    assert facts["tasks"]["red"] == {"attempts": 5, "successes": 4, "kept": 4}
    assert [(one["task"], one["attempt"]) for one in facts["sources"]] == [
        ("red", 0), ("red", 1), ("blue", 0), ("blue", 1),
    ]  # fmt: skip
    assert facts["multiplier"]["options"]["seed"] == 0
    with h5py.File(whole / "red.hdf5") as file:
        demos = list(file["data"].values())
        assert [demo.attrs["attempt"] for demo in demos] == [4, 5, 6, 7]
        said = [json.loads(demo.attrs["facts"]) for demo in demos]
        assert {one["expert"] for one in said} == {"mimicgen from scripted"}
        assert {one["source_1"] for one in said} <= {"attempt 0", "attempt 1"}
        assert json.loads(file["data"].attrs["provenance"])["recorded_by"] == "vpolicy data multiply"
        begun = {demo.attrs["initial_state"] for demo in demos}
    assert begun.isdisjoint({one["initial_state"] for one in facts["sources"]})
    info = vpolicy(home, "data", "info", "whole", "--verify", VPOLICY_HOME=str(home / "store"))
    assert info.returncode == 0 and "mimicgen from scripted" in " ".join(info.stdout.split())


def test_it_is_done_once_and_never_mixed(home: Path, whole: Path):
    before = digests(whole)
    assert multiply(home, "whole").stdout.endswith("8 episodes of 2 tasks in whole\n")
    assert digests(whole) == before
    (home / "other.yaml").write_text(SPEC.replace("sources: 2", "sources: 2\nseed: 1"))
    other = multiply(home, "whole", spec="other.yaml")
    assert other.returncode == 2 and "is not empty, and what is there was made of another multiplier" in other.stderr


def killed(home: Path) -> None:
    multiply(home, "killed", "eval.workers=2")


def test_it_goes_on_exactly_after_a_kill(home: Path, whole: Path):
    folder = kill_behind_three(killed, home, Path(__file__).parent)
    assert multiply(home, "killed").returncode == 0
    assert digests(folder) == digests(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("  blue:", "  blu:"), "the benchmark has no task 'blu'. Did you mean 'blue'?"),
        (("  blue: [{object: blue, selection: nearest-object}]", ""), "no sub-tasks of the benchmark's task 'blue'"),
        (("object: red", "objekt: red"), "objekt"),
        (("type: mimicgen", ""), "does not say its 'type'"),
        (("mimicgen", "mimicgn"), "no multiplier named 'mimicgn'. Did you mean 'mimicgen'?"),
    ],
)
def test_a_spec_that_does_not_fit(home: Path, whole: Path, change: tuple[str, str], message: str):
    (home / "wrong.yaml").write_text(SPEC.replace(*change))
    ended = multiply(home, "none", spec="wrong.yaml")
    assert ended.returncode == 2 and message in " ".join(ended.stderr.split())
    # Nothing was recorded: the next test begins in the same folder.
    assert {one.name for one in home.glob("none/*")} <= {"multiplied.json", "logs"}


def unknown(demo: h5py.Group) -> None:
    del demo.attrs["attempt"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (stateless, "episode 'demo_0', holds no states of the simulator"),
        (unknown, "episode 'demo_0', does not say from which attempt it is"),
        (elsewhere, "attempt 0 of task 'red' does not begin here as it did when it was recorded"),
        (failing, "attempt 0 of task 'red' fails when it is replayed"),
    ],
)
def test_a_source_that_will_not_do(home: Path, whole: Path, damage, message: str):
    path, file = source(home, f"{damage.__name__}.hdf5")
    with file:
        damage(file["data/demo_0"])
    (home / "red.yaml").write_text(SPEC.replace("  blue: [{object: blue, selection: nearest-object}]\n", ""))
    data = f"data={{type: robomimic-hdf5, path: {path}}}"
    ended = multiply(home, "none", "benchmark.task_names=[red]", data, spec="red.yaml")
    assert ended.returncode == 2 and message in " ".join(ended.stderr.split())
    # Nothing was recorded: the next test begins in the same folder.
    assert {one.name for one in home.glob("none/*")} <= {"multiplied.json", "logs"}


def test_a_task_without_a_source(home: Path, whole: Path):
    (made,) = home.glob("store/datasets/*/red.hdf5")
    ended = multiply(home, "none", f"data={{type: robomimic-hdf5, path: {made}}}")
    assert ended.returncode == 2 and "There is no demonstration of task 'blue' to multiply." in ended.stderr


def test_a_simulator_that_cannot_be_guided(home: Path):
    arguments = ("data", "multiply", lacking(home, "guided"), "--by", "spec.yaml", "-o", "none")
    ended = vpolicy(home, *arguments, VPOLICY_HOME=str(home / "store"))
    assert ended.returncode == 2 and "benchmark 'blind' cannot be guided from pose to pose" in " ".join(
        ended.stderr.split()
    )
