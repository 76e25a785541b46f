"""Sentences, images, masks and attributes as converters write them: read, and said, or refused with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_samples import ACTIONS, foreign_file
from vpolicy_hdf5.components import RobomimicHDF5

from videopolicy import DataError, Dataset, Window


def _build(path: Path, **options: Any) -> Dataset:
    return RobomimicHDF5(path=path, actions=ACTIONS, **options).build(None)


def _info(said: object) -> str:
    return json.dumps({"language_instruction": said})


@pytest.mark.parametrize(
    "info",
    [
        _info(["lift", "the", "cube"]),
        _info(json.dumps(["lift", "the", "cube"])),
        _info("['lift', 'the', 'cube']"),
        _info(["lift the cube"]),
        _info('"lift the cube"'),
        json.dumps(_info("lift the cube")),
        np.array([_info("lift the cube").encode()]),
    ],
)
def test_a_sentence_is_read_in_whatever_form_it_is_stored(tmp_path: Path, info: object) -> None:
    path = foreign_file(tmp_path / "lift.hdf5")
    plain = _build(path).fingerprint()
    with h5py.File(path, "a") as file:
        file["data"].attrs["problem_info"] = info
    dataset = _build(path)
    assert dataset.windows(Window()).batch([0]).observation.instructions == ["lift the cube"]
    assert dataset.fingerprint() == plain
    changed = "[" in str(info) and "language_instruction" in str(info) and not isinstance(info, np.ndarray)
    assert len(dataset.remarks) == changed
    assert all("2 episodes" in remark and "'lift the cube' of" in remark for remark in dataset.remarks)


@pytest.mark.parametrize(
    ("info", "says"),
    [
        (_info(None), "does not say in words what its task 'lift' is"),
        (_info([]), "does not say in words"),
        (_info("null"), "does not say in words"),
        (_info(["lift the cube", "raise the cube"]), "2 sentences are stored"),
        (_info(3), "the sentence is 3, which is no text"),
        (_info({"en": "lift"}), "which is no text"),
        (json.dumps(["lift the cube"]), "no JSON mapping"),
        (b"\xff\xfe", "is not UTF-8"),
        (np.array(["a", "b"], dtype="S1"), "holds 2 values, not one"),
        (h5py.Empty("S1"), "does not say in words"),
    ],
)
def test_what_is_no_sentence_is_said(tmp_path: Path, info: object, says: str) -> None:
    path = foreign_file(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        file["data"].attrs["problem_info"] = np.bytes_(info) if isinstance(info, bytes) else info
    with pytest.raises(DataError, match=says) as caught:
        _build(path)
    assert "lift.hdf5" in caught.value.message and caught.value.hint and "damaged" not in str(caught.value)


def _images(path: Path, images: np.ndarray, key: str = "agentview_rgb") -> Path:
    foreign_file(path)
    with h5py.File(path, "a") as file:
        for number in range(2):
            obs = file[f"data/demo_{number}/obs"]
            del obs["agentview_rgb"]
            obs[key] = images[: 7 + number]
    return path


BYTES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
BYTES[:, 0, 0] = 255


@pytest.mark.parametrize("cameras", [{}, {"front": "agentview_rgb"}])
@pytest.mark.parametrize(
    ("images", "says", "hint"),
    [
        (BYTES.transpose(0, 3, 1, 2), "its channels stand first", "transpose(0, 2, 3, 1)"),
        (BYTES / 255, "floats up to 1", "multiplied by 255"),
        (BYTES.astype(np.float32), "floats up to 25", "Write it as uint8 from 0 to 255."),
        (BYTES.astype(np.int64), "its numbers are no bytes", "uint8"),
        (np.concatenate([BYTES, BYTES[..., :1]], axis=3), "fourth channel", "[..., :3]"),
        (BYTES[..., :1], "one channel", "colour"),
        (np.stack([BYTES, BYTES], axis=1), "several cameras", "one array"),
    ],
)
def test_images_in_another_layout_are_told_with_what_to_do(
    tmp_path: Path, images: np.ndarray, says: str, hint: str, cameras: dict[str, str]
) -> None:
    with pytest.raises(DataError, match=says) as caught:
        _build(_images(tmp_path / "lift.hdf5", images), cameras=cameras)
    assert "agentview_rgb" in caught.value.message and hint in caught.value.hint


def test_nested_images_are_proposed_and_read(tmp_path: Path) -> None:
    path = _images(tmp_path / "lift.hdf5", BYTES, "front/rgb")
    for cameras in ({}, {"front": "front"}):
        with pytest.raises(DataError) as caught:
            _build(path, cameras=cameras)
        assert "`cameras: {front: front/rgb}`" in caught.value.hint
    found = _build(path, cameras={"front": "front/rgb"}).windows(Window()).batch([0]).observation.images["front"]
    assert np.array_equal(found[0, 0].numpy(), BYTES[0].transpose(2, 0, 1))


def test_compressed_pictures_and_empty_images_are_told(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        obs = file["data/demo_0/obs"]
        obs["jpeg"] = np.full(7, b"\xff\xd8abc", dtype="S5")
        obs["none"] = h5py.Empty("u1")
        obs["flat"] = np.zeros((7, 0, 8, 3), np.uint8)
    for key, says in (("jpeg", "compressed pictures"), ("none", "no 'obs/none'"), ("flat", r"shape \(7, 0, 8, 3\)")):
        with pytest.raises(DataError, match=says):
            _build(path, cameras={"front": key})


def test_masks_that_name_absent_episodes_are_said_and_broken_ones_refused(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "lift.hdf5", demos=3)
    with h5py.File(path, "a") as file:
        file["mask/valid"] = np.array([b"demo_2", b"demo_7"])
    dataset = _build(path)
    assert dataset.splits == {"train": 2, "validation": 1}
    assert dataset.remarks == (f"'mask/valid' of {path} names 1 episodes that the file does not hold: demo_7",)
    for broken, says in (
        (np.array([1, 2]), "no list of names"),
        (np.bytes_(b"demo_2"), "no list of names"),
        (np.array([b"\xff"]), "is not UTF-8"),
    ):
        with h5py.File(path, "a") as file:
            del file["mask/valid"]
            file["mask/valid"] = broken
        with pytest.raises(DataError, match=f"'mask/valid'.*{says}"):
            _build(path)


@pytest.mark.parametrize("value", ["seven", 7.5, np.array([7, 7]), h5py.Empty("i8"), np.array([7])])
def test_a_count_of_steps_that_is_none_is_said(tmp_path: Path, value: object) -> None:
    path = foreign_file(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["num_samples"] = value
    if isinstance(value, h5py.Empty) or (isinstance(value, np.ndarray) and value.size == 1):
        assert _build(path).splits == {"train": 2}
        return
    with pytest.raises(DataError, match=r"demo_0.*'num_samples'"):
        _build(path)


def test_actions_of_another_kind_are_said(tmp_path: Path) -> None:
    for actions, says in (
        (np.full((7, 4), 1e300), "'actions' is not finite at step 0"),
        (np.zeros((7, 4), complex), "type complex128"),
        (np.zeros((7, 4), bool), "type bool"),
        (np.zeros((0, 4)), "0 actions are recorded"),
        (np.float64(3), r"shape \(\)"),
        (np.full((7, 4), "1", dtype=h5py.string_dtype()), "type object"),
    ):
        path = foreign_file(tmp_path / "lift.hdf5")
        with h5py.File(path, "a") as file:
            del file["data/demo_0/actions"]
            file["data/demo_0/actions"] = actions
        with pytest.raises(DataError, match=f"demo_0.*{says}"):
            _build(path)
