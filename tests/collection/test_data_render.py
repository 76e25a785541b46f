"""``vpolicy data render`` on the toy benchmark: what collecting itself would have seen, resumable, and clear errors."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import h5py
import numpy as np
import pytest
from command import vpolicy
from derived_demonstrations import digests, elsewhere, failing, kill_behind_three, lacking, source, stateless
from toy_recipes import linear

LARGER = ("--as", "benchmark.image_size=32")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("render")
    (folder / "toy.yaml").write_text(linear("episodes: 0, workers: 1"))
    return folder


def render(home: Path, output: str, *arguments: str, recipe: str = "toy.yaml") -> CompletedProcess[str]:
    command = ("data", "render", recipe, *arguments, "-o", output, "--quiet")
    return vpolicy(home, *command, VPOLICY_HOME=str(home / "store"))


def refused(home: Path, *arguments: str, recipe: str = "toy.yaml") -> str:
    """What is said of something wrong, for which nothing is recorded: all these are given the same folder."""
    ended = render(home, "none", *arguments, recipe=recipe)
    assert ended.returncode == 2, ended.stderr
    assert {one.name for one in home.glob("none/*")} <= {"rendered.json", "logs"}
    return " ".join(ended.stderr.split())


@pytest.fixture(scope="module")
def whole(home: Path) -> Path:
    ended = render(home, "whole", *LARGER)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[0] == "red: 3 episodes, all of them solved when replayed"
    assert ended.stdout.splitlines()[-1] == "6 episodes of 2 tasks in whole"
    return home / "whole"


def test_it_is_what_collecting_with_these_cameras_gives(home: Path, whole: Path):
    ended = vpolicy(
        home, "data", "collect", "toy.yaml", LARGER[1], "--quiet", VPOLICY_HOME=str(home / "collected-larger")
    )
    assert ended.returncode == 0, ended.stderr
    (collected,) = home.glob("collected-larger/datasets/*/dataset.json")
    assert digests(whole) == digests(collected.parent)
    (small,) = home.glob("store/datasets/*/red.hdf5")
    with (
        h5py.File(whole / "red.hdf5") as file,
        h5py.File(small) as source,
        h5py.File(collected.with_name("red.hdf5")) as expected,
    ):
        for name, demo in file["data"].items():
            recorded = source["data"][name]
            assert np.array_equal(demo["obs/top_image"], expected["data"][name]["obs/top_image"])
            assert all(np.array_equal(demo[key], recorded[key]) for key in ("actions", "states", "obs/state"))
            for key in ("attempt", "initial_state", "facts", "ep_meta", "success"):
                assert demo.attrs[key] == recorded.attrs[key]


def test_it_says_what_it_was_made_of_and_is_read_like_any_data(home: Path, whole: Path):
    facts = json.loads((whole / "rendered.json").read_text())
    assert facts["episodes"] == {"red": 3, "blue": 3}
    assert [facts[name]["options"]["image_size"] for name in ("recording", "rendering")] == [16, 32]
    assert facts["data"]["type"] == "robomimic-hdf5" and facts["data"]["content"] and facts["worker"]
    info = vpolicy(
        home, "data", "info", "whole", "--type", "robomimic-hdf5", "--verify", VPOLICY_HOME=str(home / "store")
    )
    assert info.returncode == 0 and "top 32x32" in info.stdout and "scripted" in info.stdout
    # What was rendered is data to render from; back again, it is what it was.
    back = render(
        home, "back", "data={type: robomimic-hdf5, path: whole}", LARGER[1], "--as", "benchmark.image_size=16"
    )
    assert back.returncode == 0, back.stderr
    (small,) = home.glob("store/datasets/*/dataset.json")
    assert digests(home / "back") == digests(small.parent)


def test_it_is_done_once_and_never_mixed(home: Path, whole: Path):
    before = (whole / "red.hdf5").stat().st_mtime_ns
    assert render(home, "whole", *LARGER).stdout.endswith("6 episodes of 2 tasks in whole\n")
    assert (whole / "red.hdf5").stat().st_mtime_ns == before
    for output, arguments, message in (
        ("whole", ("--as", "benchmark.image_size=24"), "is not empty, and what is there was made of another rendering"),
        ("whole", ("data.window_stride=2", *LARGER), "what is there was made of another data"),
        ("store", LARGER, "is not empty, and was not made by this command"),
        ("toy.yaml", LARGER, "is a file"),
    ):
        ended = render(home, output, *arguments)
        assert ended.returncode == 2 and message in " ".join(ended.stderr.split())


def killed(home: Path) -> None:
    render(home, "killed", "eval.workers=2", *LARGER)


def test_it_goes_on_exactly_after_a_kill(home: Path, whole: Path):
    folder = kill_behind_three(killed, home, Path(__file__).parent)
    ended = render(home, "killed", *LARGER)
    assert ended.returncode == 0, ended.stderr
    for name in ("red.hdf5", "blue.hdf5", "dataset.json", "rendered.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_an_episode_on_which_workers_die_is_an_error_and_never_left_out(home: Path, whole: Path):
    ended = render(home, "dies", *LARGER, "--as", "benchmark.dies_at=[1, 2]")
    said = " ".join(ended.stderr.split())
    assert ended.returncode == 2 and "Attempt 1 of task 'red' cannot be rendered." in said and "died during" in said
    assert "the same command goes on with the rest" in said
    assert len(list(home.glob("dies/parts/red/*"))) == 1  # attempt 0, and no failed one


@pytest.mark.parametrize(
    ("otherwise", "message"),
    [
        ("data.window_stride=2", "--as data.window_stride=2 is nothing of the benchmark"),
        ("benchmark.image_siz=32", "there is no such field. Did you mean 'image_size'?"),
        ("benchmark.task_names=[red]", "Rendering cannot change the tasks"),
        ("benchmark.action_dim=4", "Rendering cannot change the actions"),
        ("benchmark.image_size=16", "changes nothing in demonstrations"),
    ],
)
def test_what_cannot_be_rendered_otherwise(home: Path, otherwise: str, message: str):
    assert message in refused(home, "--as", otherwise)


def smaller(demo: h5py.Group) -> None:
    states = demo["states"][:, :8]
    del demo["states"]
    demo["states"] = states


def repeated(demo: h5py.Group) -> None:
    demo.attrs["attempt"] = 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (stateless, "episode 'demo_0', holds no states of the simulator"),
        (elsewhere, "attempt 0 of task 'red' does not begin here as it did when it was recorded"),
        (failing, "attempt 0 of task 'red' fails when it is replayed"),
        (smaller, "Attempt 0 of task 'red' cannot be rendered. Worker 0 of 'toy'"),
        (repeated, "The data hold attempt 1 of task 'red' twice."),
    ],
)
def test_an_episode_that_cannot_be_rendered(home: Path, whole: Path, damage, message: str):
    path, file = source(home, f"{damage.__name__}.hdf5")
    with file:
        damage(file["data/demo_0"])
    said = refused(home, f"data={{type: robomimic-hdf5, path: {path}}}", *LARGER)
    assert message in said
    if damage is smaller:
        assert "states have 8 numbers, those of this scene 10" in said


def test_an_episode_of_another_benchmark(home: Path, whole: Path):
    data = "data={type: robomimic-hdf5, path: whole}"
    said = refused(
        home, "benchmark.task_names=[red]", "benchmark.image_size=32", data, "--as", "benchmark.image_size=16"
    )
    assert "a demonstration of 'blue', which is no task of the recipe's benchmark (red)" in said


def test_a_simulator_that_cannot_render_states(home: Path):
    assert "benchmark 'blind' cannot render recorded states" in refused(
        home, *LARGER, recipe=lacking(home, "rerenders")
    )
