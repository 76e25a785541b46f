"""Whatever is wrong with a file is said in one sentence that names file, episode and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdf5_samples import ACTIONS, collect, foreign_file
from vpolicy_hdf5.components import RobomimicHDF5

from videopolicy import DataError, Window


def _replace(group: h5py.Group, key: str, values: np.ndarray) -> None:
    del group[key]
    group[key] = values


def _nan_actions(data: h5py.Group) -> None:
    data["demo_1/actions"][4, 2] = np.nan
    data["demo_1/actions"][6, 0] = np.inf


def _infinite_state(data: h5py.Group) -> None:
    data["demo_1/obs/state"][3] = -np.inf


def _short_actions(data: h5py.Group) -> None:
    _replace(data["demo_1"], "actions", data["demo_1/actions"][:-2])


def _one_dimensional_actions(data: h5py.Group) -> None:
    _replace(data["demo_1"], "actions", data["demo_1/actions"][:, 0])


def _words_as_actions(data: h5py.Group) -> None:
    _replace(data["demo_1"], "actions", np.full((10, 4), b"left"))


def _five_dimensions(data: h5py.Group) -> None:
    _replace(data["demo_1"], "actions", np.zeros((10, 5)))


def _no_actions(data: h5py.Group) -> None:
    del data["demo_1/actions"]


def _no_observations(data: h5py.Group) -> None:
    del data["demo_1/obs"]


def _renamed_camera(data: h5py.Group) -> None:
    data["demo_1/obs"].move("side_image", "sides_image")


def _channels_first(data: h5py.Group) -> None:
    _replace(data["demo_1/obs"], "side_image", data["demo_1/obs/side_image"][()].transpose(0, 3, 1, 2))


def _floating_images(data: h5py.Group) -> None:
    _replace(data["demo_1/obs"], "side_image", data["demo_1/obs/side_image"][()] / 255)


def _missing_frames(data: h5py.Group) -> None:
    _replace(data["demo_1/obs"], "side_image", data["demo_1/obs/side_image"][:-1])


def _another_size(data: h5py.Group) -> None:
    _replace(data["demo_1/obs"], "side_image", np.zeros((10, 16, 16, 3), np.uint8))


def _no_episodes(data: h5py.Group) -> None:
    for name in list(data):
        del data[name]


def _no_words(data: h5py.Group) -> None:
    del data["demo_1"].attrs["ep_meta"]


def _broken_spaces(data: h5py.Group) -> None:
    data.attrs["spaces"] = '{"cameras": 3}'


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_nan_actions, ["demo_1", "'actions' is not finite at step 4 and 1 further"]),
        (_infinite_state, ["demo_1", "'state' is not finite at step 3"]),
        (_short_actions, ["demo_1", "8 actions", "'num_samples' says 10"]),
        (_one_dimensional_actions, ["demo_1", "'actions' has shape (10,)"]),
        (_words_as_actions, ["demo_1", "'actions' has shape (10, 4) and type |S4"]),
        (_five_dimensions, ["demo_1", "5 dimensions where 4 are described (x, y, z, gripper)"]),
        (_no_actions, ["demo_1", "has no 'actions'"]),
        (_no_observations, ["demo_1", "no group 'obs'; it holds actions, dones, rewards"]),
        (_renamed_camera, ["demo_1", "no 'obs/side_image'. Did you mean 'sides_image'?"]),
        (_channels_first, ["demo_1", "'obs/side_image' has shape (10, 3, 8, 12)"]),
        (_floating_images, ["demo_1", "'obs/side_image'", "float64", "uint8"]),
        (_missing_frames, ["demo_1", "'obs/side_image' has shape (9, 8, 12, 3)", "(10, height, width, 3)"]),
        (_another_size, ["demo_1", "(16, 16)", "demo_0", "(8, 12)"]),
        (_no_episodes, ["holds no episode"]),
        (_no_words, ["demo_1", "'close'", "instructions"]),
        (_broken_spaces, ["attribute 'spaces'"]),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[h5py.Group], None], says: list[str]) -> None:
    folder = collect(tmp_path / "data", tasks=("close",))
    with h5py.File(folder / "close.hdf5", "a") as file:
        damage(file["data"])
    with pytest.raises(DataError) as caught:
        RobomimicHDF5(path=folder).build(None)
    for words in [*says, "close.hdf5"]:
        assert words in str(caught.value)
    assert caught.value.hint


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = (collect(tmp_path / "data", tasks=("close",)) / "close.hdf5").read_bytes()
    cut = tmp_path / "cut.hdf5"
    for length in [0, 1, 7, 8, 100, 512, len(whole) // 4, len(whole) // 2, len(whole) - 4096, len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.hdf5 cannot be read"):
            RobomimicHDF5(path=cut).build(None)


@pytest.mark.parametrize("memory_limit", [2.0, 0.0])
def test_overwritten_bytes_never_end_in_a_foreign_error(tmp_path: Path, memory_limit: float) -> None:
    whole = (collect(tmp_path / "data", tasks=("close",)) / "close.hdf5").read_bytes()
    damaged, noise, refused = tmp_path / "damaged.hdf5", np.random.default_rng(0).bytes(300), 0
    for start in range(0, len(whole) - 300, len(whole) // 40):
        damaged.write_bytes(whole[:start] + noise + whole[start + 300 :])
        try:
            windows = RobomimicHDF5(path=damaged, memory_limit=memory_limit).build(None).windows(Window(horizon=1))
            windows.batch(range(len(windows)))
        except DataError as error:
            refused += 1
            assert "damaged.hdf5" in str(error)
    assert refused > 10


def test_what_is_no_dataset_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.hdf5").write_text("not HDF5 at all")
    with pytest.raises(DataError, match=r"notes\.hdf5 cannot be read"):
        RobomimicHDF5(path=tmp_path).build(None)
    with h5py.File(tmp_path / "notes.hdf5", "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(DataError, match="no group 'data'; it holds weights"):
        RobomimicHDF5(path=tmp_path).build(None)
    with pytest.raises(DataError, match="does not exist"):
        RobomimicHDF5(path=tmp_path / "absent").build(None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.hdf5 file"):
        RobomimicHDF5(path=tmp_path / "empty").build(None)
    with pytest.raises(DataError, match="names no path"):
        RobomimicHDF5().build(None)


def test_options_that_do_not_fit_the_file_are_said(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "lift.hdf5")
    with pytest.raises(DataError, match="does not say what its actions mean"):
        RobomimicHDF5(path=path).build(None)
    with pytest.raises(DataError, match=r"no 'obs/agentview_image'\. Did you mean 'agentview_rgb'\?"):
        RobomimicHDF5(path=path, actions=ACTIONS, cameras={"front": "agentview_image"}).build(None)
    with pytest.raises(DataError, match=r"no 'obs/eef_pos'\. Did you mean 'ee_pos'\?"):
        RobomimicHDF5(path=path, actions=ACTIONS, state=("eef_pos",)).build(None)
    collected = collect(tmp_path / "data")
    contrary = ACTIONS.model_copy(update={"gripper": "positive_opens"})
    with pytest.raises(DataError, match="disagree about what the actions mean"):
        RobomimicHDF5(path=collected, actions=contrary).build(None)
