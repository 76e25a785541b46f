"""Data that have changed since they were collected, or since they were first opened, never pass for the same."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from command import vpolicy
from rich.console import Console
from toy_recipes import linear

from videopolicy.console.progress import Reporter
from videopolicy.data.preparation import prepare_data
from videopolicy.errors import DataError
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage.store import Store
from videopolicy.training.planning import plan

QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    (folder / "small.yaml").write_text(linear("episodes: 0, execute: 3"))
    prepare_data(load_recipe(folder / "small.yaml"), Store(folder / "home"), QUIET)
    return folder


@pytest.fixture
def place(original, tmp_path) -> Path:
    shutil.copytree(original, tmp_path / "place")
    return tmp_path / "place"


def data_of(place: Path) -> Path:
    (folder,) = (place / "home" / "datasets").iterdir()
    return folder


def blackened(folder: Path) -> None:
    """The pictures in the middle of one episode; the file's own attributes stay, its size and its time too."""
    file = sorted(folder.glob("*.hdf5"))[0]
    before = file.stat()
    with h5py.File(file, "r+") as opened:
        images = opened["data/demo_1/obs/top_image"]
        images[1:-1] = 0
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def without_an_episode(folder: Path) -> None:
    with h5py.File(sorted(folder.glob("*.hdf5"))[0], "r+") as opened:
        del opened["data/demo_2"]


def without_a_file(folder: Path) -> None:
    sorted(folder.glob("*.hdf5"))[0].unlink()


def with_another_file(folder: Path) -> None:
    shutil.copy(sorted(folder.glob("*.hdf5"))[0], folder / "another.hdf5")


CHANGES = [blackened, without_an_episode, without_a_file, with_another_file]


@pytest.mark.parametrize("change", CHANGES)
def test_collected_data_are_compared_whenever_they_are_used(place, change: Callable[[Path], None]):
    recipe = load_recipe(place / "small.yaml")
    prepare_data(recipe, Store(place / "home"), QUIET)
    change(data_of(place))
    with pytest.raises(DataError, match=r"are no longer what was collected: .*hdf5") as caught:
        prepare_data(recipe, Store(place / "home"), QUIET)
    assert f"rm -r {data_of(place)}" in caught.value.hint
    by_path = load_recipe(place / "small.yaml", [f"data.path={data_of(place)}", "data.episodes_per_task=null"])
    with pytest.raises(DataError, match="are no longer what was collected"):
        prepare_data(by_path, Store(place / "home"), QUIET)


@pytest.mark.parametrize("change", CHANGES[:3])
def test_collected_data_carry_their_digests_wherever_they_are_copied(place, tmp_path, change: Callable[[Path], None]):
    shutil.copytree(data_of(place), tmp_path / "copy")
    for name in ("done.json", "hashes.json", "checked.json"):
        (tmp_path / "copy" / name).unlink()
    recipe = load_recipe(place / "small.yaml", [f"data.path={tmp_path / 'copy'}", "data.episodes_per_task=null"])
    prepare_data(recipe, Store(place / "home"), QUIET)
    change(tmp_path / "copy")
    with pytest.raises(DataError, match=r"collected"):
        prepare_data(recipe, Store(place / "home"), QUIET)


def without_digests(folder: Path) -> None:
    """As others' data, which carry none."""
    for file in folder.glob("*.hdf5"):
        with h5py.File(file, "r+") as opened:
            for demo in opened["data"].values():
                del demo.attrs["digest"]
    for file in folder.glob("*.json"):
        file.unlink()


def test_others_data_that_have_changed_are_other_data_and_this_is_said(place, tmp_path):
    shutil.copytree(data_of(place), tmp_path / "others")
    without_digests(tmp_path / "others")
    recipe = load_recipe(place / "small.yaml", [f"data.path={tmp_path / 'others'}", "data.episodes_per_task=null"])
    store, said = Store(place / "home"), io.StringIO()
    reporter = Reporter(console=Console(file=said, width=400))

    def key() -> str:
        return plan(recipe, prepare_data(recipe, store, reporter).dataset, store)[0].key

    first = key()
    for file in (tmp_path / "others").glob("*.hdf5"):
        file.touch()  # read again, and the same
    assert key() == first and "not what they were" not in said.getvalue()
    info = ("data", "info", str(tmp_path / "others"), "--quiet", "--verify")
    done = vpolicy(place, *info, VPOLICY_HOME=str(store.root))
    assert done.returncode == 0 and "all is what it was" in " ".join(done.stdout.split())
    blackened(tmp_path / "others")
    done = vpolicy(place, *info, VPOLICY_HOME=str(store.root))
    assert (
        done.returncode == 2 and "are not what they were; since 2" in done.stderr and ".hdf5 was changed" in done.stderr
    )
    second = key()
    assert second != first
    assert said.getvalue().count("not what they were; since 2") == 1
    assert key() == second and said.getvalue().count("not what they were") == 1
    assert vpolicy(place, *info, VPOLICY_HOME=str(store.root)).returncode == 0  # noticed, said, and used as it is
    without_a_file(tmp_path / "others")
    third = key()
    assert third not in (first, second) and ".hdf5 was removed" in said.getvalue()
    # The same content elsewhere is the same data.
    shutil.move(tmp_path / "others", tmp_path / "moved")
    moved = load_recipe(place / "small.yaml", [f"data.path={tmp_path / 'moved'}", "data.episodes_per_task=null"])
    assert plan(moved, prepare_data(moved, store, reporter).dataset, store)[0].key == third


def test_info_verifies_collected_data(place):
    info = ("data", "info", str(data_of(place)), "--quiet", "--verify")
    assert vpolicy(place, *info, VPOLICY_HOME=str(place / "home")).returncode == 0
    blackened(data_of(place))
    done = vpolicy(place, *info, VPOLICY_HOME=str(place / "home"))
    assert done.returncode == 2 and "are no longer what was collected" in done.stderr


@pytest.mark.parametrize("text", ["", "[]", "7", '{"episodes": 3}'])
def test_a_damaged_mark_is_named_and_nothing_is_collected_again(place, text):
    (data_of(place) / "done.json").write_text(text)
    before = {path: path.stat().st_mtime_ns for path in data_of(place).glob("*.hdf5")}
    with pytest.raises(Exception, match=r"done\.json is damaged"):
        prepare_data(load_recipe(place / "small.yaml"), Store(place / "home"), QUIET)
    assert before == {path: path.stat().st_mtime_ns for path in data_of(place).glob("*.hdf5")}
