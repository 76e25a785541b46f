"""Chunks that are not there, images that are black, and reasons that are no damage."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from pydantic import ValidationError
from vpolicy_zarr.buffer import readable
from vpolicy_zarr.components import ReplayBufferZarr

from videopolicy import ActionSpace, DataError, Dataset, Window

ENDS = np.array([6, 15, 19], np.int64)


def _content(images: np.ndarray | None = None) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = random.integers(1, 256, (19, 6, 4, 3)).astype(np.uint8) if images is None else images
    return {
        "data/img": made,
        "data/state": random.uniform(0, 512, (19, 3)).astype(np.float32),
        "data/action": random.uniform(0, 512, (19, 2)).astype(np.float32),
        "meta/episode_ends": ENDS,
    }


def _write(path: Path, arrays: dict[str, np.ndarray], zarr_format: int = 2, frames: int = 5, **more: object) -> Path:
    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, values in arrays.items():
        chunks = (frames, *values.shape[1:]) if values.ndim > 1 else values.shape
        root.create_array(name, data=values, chunks=chunks, **(more if values.ndim == 4 else {}))
    return path


def _build(path: Path, **options: object) -> Dataset:
    actions = ActionSpace(names=("x", "y"), low=(0, 0), high=(512, 512), control="planar_target", rate=10)
    common = {"cameras": {"image": "img"}, "state": {"x": ("state", 0)}, "actions": actions, "instruction": "push"}
    return ReplayBufferZarr(path=path, **{**common, **options}).build(None)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("name", "chunk", "step"),
    [("data/img", "1.0.0.0", 5), ("data/action", "3.0", 15), ("data/state", "0.0", 0), ("meta/episode_ends", "0", 0)],
)
def test_a_missing_chunk_is_named(tmp_path: Path, zarr_format: int, name: str, chunk: str, step: int) -> None:
    path = _write(tmp_path / "a.zarr", _content(), zarr_format)
    key = chunk if zarr_format == 2 else f"c/{chunk.replace('.', '/')}"
    (path / name / key).unlink()
    with pytest.raises(
        DataError, match=rf"a\.zarr: '{name}' has holes: 1 of its \d chunks .*'{key}' with step {step};"
    ):
        _build(path)


def test_a_chunk_that_an_archive_lacks_is_named(tmp_path: Path) -> None:
    folder = _write(tmp_path / "a.zarr", _content())
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
        for file in folder.rglob("*"):
            if file.is_file() and file.name != "2.0.0.0":
                archive.write(file, str(file.relative_to(folder)))
    with pytest.raises(DataError, match=r"'data/img' has holes: 1 of its 4 chunks .*'2\.0\.0\.0' with step 10"):
        _build(tmp_path / "a.zarr.zip")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_black_first_image_of_its_own_is_read_and_said(tmp_path: Path, zarr_format: int) -> None:
    images = _content()["data/img"]
    images[[0, 6]] = 0  # the first of two episodes: zarr writes no chunk for them
    path = _write(tmp_path / "a.zarr", _content(images), zarr_format, frames=1)
    dataset = _build(path)
    assert len(dataset.remarks) == 1 and "the first image of 2 episodes, such as at step 0" in dataset.remarks[0]
    assert not dataset.windows(Window()).batch([6]).observation.images["image"].any()
    images[8] = 0  # in the middle of one, it may as well have been lost
    with pytest.raises(DataError, match=r"has holes: 3 of its 19 chunks") as caught:
        _build(_write(tmp_path / "b.zarr", _content(images), zarr_format, frames=1))
    assert "write_empty_chunks" in caught.value.hint
    with zarr.config.set({"array.write_empty_chunks": True}):
        written = _build(_write(tmp_path / "c.zarr", _content(images), zarr_format, frames=1))
    assert written.remarks == ()


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_buffer_that_begins_black_is_read(tmp_path: Path, kind: type) -> None:
    images = _content()["data/img"].astype(kind)
    images[:2] = 0
    dataset = _build(_write(tmp_path / "a.zarr", _content(images)))
    batch = dataset.windows(Window()).batch(range(19)).observation.images["image"]
    assert not batch[:2].any() and batch[2:].float().mean() > 100
    assert [("rounded" in remark) for remark in dataset.remarks] == [True] * (kind == np.float32)


def test_floats_up_to_one_are_told_though_the_first_is_black(tmp_path: Path) -> None:
    images = _content()["data/img"] / np.float32(255)
    images[:7] = 0
    with zarr.config.set({"array.write_empty_chunks": True}), pytest.raises(DataError, match="floats up to 1, not up"):
        _build(_write(tmp_path / "a.zarr", _content(images)))


@pytest.mark.parametrize(
    ("change", "says", "hint"),
    [
        (lambda images: images.transpose(0, 3, 1, 2), "its channels stand first", "transpose"),
        (lambda images: images.astype(np.uint16), "its numbers are no bytes", "uint8"),
        (lambda images: images[..., :1], "one channel", "colour"),
    ],
)
def test_images_in_another_layout_are_told_with_what_to_do(tmp_path: Path, change, says: str, hint: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        _build(_write(tmp_path / "a.zarr", _content(change(_content()["data/img"]))))
    assert hint in caught.value.hint


def test_ends_that_fall_are_told_though_they_are_unsigned(tmp_path: Path) -> None:
    for ends in ([6, 3, 19], [0, 6, 19], [6, 6, 19]):
        arrays = {**_content(), "meta/episode_ends": np.array(ends, np.uint64)}
        with zarr.config.set({"array.write_empty_chunks": True}), pytest.raises(DataError, match="must be whole"):
            _build(_write(tmp_path / "a.zarr", arrays))


def test_named_pipes_are_not_waited_for(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zarr", _content())
    (path / "data/img/0.0.0.0").unlink()
    os.mkfifo(path / "data/img/0.0.0.0")
    with pytest.raises(DataError, match="named pipe"):
        _build(path)
    os.mkfifo(tmp_path / "pipe.zarr")
    with pytest.raises(ValidationError, match="named pipe"):
        _build(tmp_path / "pipe.zarr")


@pytest.mark.parametrize(
    ("error", "says", "hint"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "x/.zarray"), "permissions do not allow it", "chmod"),
        (OSError(errno.EMFILE, "Too many open files"), "may not open more files", "ulimit"),
        (ValueError("codec not available: 'imagecodecs_jpegxl'"), "jpegxl", "codec"),
    ],
)
def test_reasons_outside_of_the_buffer_are_not_called_damage(error: Exception, says: str, hint: str) -> None:
    with pytest.raises(DataError, match=says) as caught, readable(Path("a.zarr"), "'data/img'"):
        raise error
    assert hint in caught.value.hint and "damaged" not in str(caught.value)
