"""What was never written, or lies in a file that is not there, is an error and not zeros."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdf5_samples import ACTIONS, foreign_file
from vpolicy_hdf5.components import RobomimicHDF5

from videopolicy import DataError, Window

STEPS = 7
IMAGES = (STEPS, 8, 8, 3)


def _virtual(group: h5py.Group, key: str, source: Path | str, rows: int = STEPS, covered: int = STEPS) -> None:
    layout = h5py.VirtualLayout(IMAGES, np.uint8)
    layout[:covered] = h5py.VirtualSource(source, "images", (rows, *IMAGES[1:]))[:covered]
    group.create_virtual_dataset(key, layout)


def _source(folder: Path, rows: int = STEPS, written: bool = True) -> str:
    with h5py.File(folder / "source.hdf5", "w") as file:
        images = file.create_dataset("images", (rows, *IMAGES[1:]), np.uint8, chunks=(1, *IMAGES[1:]))
        if written:
            images[...] = 5
    return "source.hdf5"


def _gone(obs: h5py.Group, folder: Path) -> None:
    _virtual(obs, "agentview_rgb", "gone.hdf5")


def _shrunk(obs: h5py.Group, folder: Path) -> None:
    _virtual(obs, "agentview_rgb", _source(folder, rows=STEPS - 2))


def _all_of_a_shrunk_one(obs: h5py.Group, folder: Path) -> None:
    layout = h5py.VirtualLayout(IMAGES, np.uint8)
    layout[...] = h5py.VirtualSource(_source(folder, rows=STEPS - 2), "images", IMAGES)
    obs.create_virtual_dataset("agentview_rgb", layout)


def _uncovered(obs: h5py.Group, folder: Path) -> None:
    _virtual(obs, "agentview_rgb", _source(folder), covered=STEPS - 1)


def _source_with_holes(obs: h5py.Group, folder: Path) -> None:
    _virtual(obs, "agentview_rgb", _source(folder, written=False))


def _no_array_in_the_source(obs: h5py.Group, folder: Path) -> None:
    h5py.File(folder / "other.hdf5", "w").close()
    _virtual(obs, "agentview_rgb", "other.hdf5")


def _of_itself(obs: h5py.Group, folder: Path) -> None:
    layout = h5py.VirtualLayout(IMAGES, np.uint8)
    layout[...] = h5py.VirtualSource(".", "data/demo_0/obs/agentview_rgb", IMAGES)
    obs.create_virtual_dataset("agentview_rgb", layout)


def _a_pipe_as_source(obs: h5py.Group, folder: Path) -> None:
    os.mkfifo(folder / "pipe.hdf5")
    _virtual(obs, "agentview_rgb", "pipe.hdf5")


def _one_chunk(obs: h5py.Group, folder: Path) -> None:
    images = obs.create_dataset("agentview_rgb", IMAGES, np.uint8, chunks=(1, *IMAGES[1:]))
    images[:4], images[5:] = 7, 7


def _contiguous(obs: h5py.Group, folder: Path) -> None:
    obs.create_dataset("agentview_rgb", IMAGES, np.uint8)


def _no_raw_file(obs: h5py.Group, folder: Path) -> None:
    raw = [(str(folder / "raw.bin"), 0, int(np.prod(IMAGES)))]
    obs.create_dataset("agentview_rgb", IMAGES, np.uint8, external=raw)


def _short_raw_file(obs: h5py.Group, folder: Path) -> None:
    _no_raw_file(obs, folder)
    (folder / "raw.bin").write_bytes(b"\x05" * 100)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_gone, "gone.hdf5, and that file is not there"),
        (_shrunk, r"source.hdf5, which has shape \(5, 8, 8, 3\): less than what is taken"),
        (_all_of_a_shrunk_one, r"source.hdf5, which has shape \(5, 8, 8, 3\): less than what is taken"),
        (_uncovered, "leave 192 of its 1344 numbers open"),
        (_source_with_holes, "7 of its 7 chunks were never written, the first of them at step 0"),
        (_no_array_in_the_source, "other.hdf5, and there is no such dataset"),
        (_of_itself, "made of itself"),
        (_a_pipe_as_source, "is a named pipe"),
        (_one_chunk, "1 of its 7 chunks were never written, the first of them at step 4"),
        (_contiguous, "was never written"),
        (_no_raw_file, "external file .*raw.bin, which is not there"),
        (_short_raw_file, "raw.bin, which has 100 bytes where 1344 are needed"),
    ],
)
def test_images_that_are_not_there_are_named(
    tmp_path: Path, damage: Callable[[h5py.Group, Path], None], says: str
) -> None:
    path = foreign_file(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        del file["data/demo_0/obs/agentview_rgb"]
        damage(file["data/demo_0/obs"], tmp_path)
    with pytest.raises(DataError, match=says) as caught:
        RobomimicHDF5(path=path, actions=ACTIONS).build(None)
    if damage is not _a_pipe_as_source:
        for words in ("lift.hdf5", "demo_0", "agentview_rgb"):
            assert words in str(caught.value)
    assert "delete" not in str(caught.value).lower()


@pytest.mark.parametrize(("key", "shape"), [("actions", (7, 4)), ("obs/ee_pos", (7, 3))])
@pytest.mark.parametrize("chunks", [None, (2, 1)])
def test_numbers_that_were_never_written_are_named(tmp_path: Path, key: str, shape: tuple, chunks: tuple) -> None:
    path = foreign_file(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        del file["data/demo_0"][key]
        file["data/demo_0"].create_dataset(key, shape, np.float32, chunks=chunks)
    with pytest.raises(DataError, match=rf"demo_0.*'{key.split('/')[-1]}'.*never written"):
        RobomimicHDF5(path=path, actions=ACTIONS, state=("ee_pos",)).build(None)


def test_zeros_that_were_written_and_files_that_are_there_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foreign_file(tmp_path / "lift.hdf5", demos=3)
    (tmp_path / "raw.bin").write_bytes(b"\x06" * int(np.prod(IMAGES)))
    monkeypatch.chdir(tmp_path)  # where HDF5 looks for external files
    with h5py.File(path, "a") as file:
        for number in range(3):
            del file[f"data/demo_{number}"]
        for number in range(3):
            demo = file["data"].create_group(f"demo_{number}")
            demo["actions"] = np.zeros((STEPS, 4))
        file["data/demo_0"].create_dataset("obs/agentview_rgb", data=np.zeros(IMAGES, np.uint8), chunks=(1, 8, 8, 3))
        _virtual(file["data/demo_1"].create_group("obs"), "agentview_rgb", _source(tmp_path))
        raw = [("raw.bin", 0, int(np.prod(IMAGES)))]
        file["data/demo_2"].create_dataset("obs/agentview_rgb", IMAGES, np.uint8, external=raw)
    windows = RobomimicHDF5(path=path, actions=ACTIONS).build(None).windows(Window())
    images = windows.batch([0, STEPS, 2 * STEPS]).observation.images["agentview"]
    assert [image.unique().tolist() for image in images] == [[0], [5], [6]]
