"""Rotations in six numbers, sentences from file names, and actions before a window."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from vpolicy_hdf5.components import RobomimicHDF5

from videopolicy import ActionSpace, DataError, Window
from videopolicy.testing import DatasetContract

NAMES = ("x", "y", "z", "r11", "r12", "r13", "r21", "r22", "r23", "gripper")
ABSOLUTE = ActionSpace(
    names=NAMES,
    low=(-2.0,) * 3 + (-1.0,) * 7,
    high=(2.0,) * 3 + (1.0,) * 7,
    control="absolute_position",
    rotation="absolute_rotation_6d",
    gripper="positive_closes",
    rate=20.0,
)
LENGTHS = (5, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    path = tmp_path / "KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5"
    with h5py.File(path, "w") as file:
        for number, steps in enumerate(LENGTHS):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = random.uniform(-1, 1, (steps, 7))
            demo["obs/agentview_rgb"] = random.integers(0, 256, (steps, 8, 8, 3), dtype=np.uint8)
    return path


def component(path: Path, **options: object) -> RobomimicHDF5:
    common = {"actions": ABSOLUTE, "rotation": "axis-angle-to-6d", "instructions": "file-name"}
    return RobomimicHDF5(path=path, **{**common, **options})


class TestContract(DatasetContract):
    @pytest.fixture
    def component(self, path: Path) -> RobomimicHDF5:
        return component(path)


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Rodrigues' formula, as a second opinion."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def test_axis_and_angle_become_the_first_two_rows_of_the_matrix(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["data/demo_0/actions"][0] = [1, 2, 3, 0, 0, np.pi / 2, -1]  # a quarter turn about z
        recorded = file["data/demo_0/actions"][()].astype(np.float32)
    windows = component(path).build(None).windows(Window(horizon=1))
    actions = windows.batch(range(LENGTHS[0])).actions[:, 0].numpy()
    assert np.allclose(actions[0], [1, 2, 3, 0, -1, 0, 1, 0, 0, -1], atol=1e-6)
    for found, given in zip(actions[1:], recorded[1:], strict=True):
        assert np.allclose(found[3:9].reshape(2, 3), rotation_matrix(given[3:6])[:2], atol=1e-6)
        assert np.array_equal(found[[0, 1, 2, 9]], given[[0, 1, 2, 6]])


def test_the_rotation_changes_fingerprint_and_statistics(path: Path) -> None:
    described = {**ABSOLUTE.model_dump(), "rotation": "delta_axis_angle"}
    described |= {name: described[name][:7] for name in ("names", "low", "high")}
    as_recorded = component(path, rotation="recorded", actions=described).build(None)
    rewritten = component(path).build(None)
    assert len(as_recorded.statistics().actions.mean) == 7 and len(rewritten.statistics().actions.mean) == 10
    assert as_recorded.fingerprint() != rewritten.fingerprint()


def test_columns_are_chosen_before_the_rotation_is_rewritten(path: Path) -> None:
    plain = component(path).build(None)
    chosen = component(path, action_dimensions=(0, 1, 2, 3, 4, 5, 6)).build(None)
    assert plain.fingerprint() == chosen.fingerprint()
    with pytest.raises(ValidationError, match="chooses 10 columns, and 'actions' describes 7"):
        component(path, action_dimensions=tuple(range(10)))
    with pytest.raises(DataError, match="'actions' has 5 dimensions, too few for a position"):
        with h5py.File(path, "a") as file:
            for name in file["data"]:
                narrow = file[f"data/{name}/actions"][:, :5]
                del file[f"data/{name}/actions"]
                file[f"data/{name}/actions"] = narrow
        component(path).build(None)


def test_a_rotation_must_be_described_as_what_it_becomes(path: Path) -> None:
    with pytest.raises(ValidationError, match="rotation absolute_rotation_6d"):
        component(path, actions=ABSOLUTE.model_copy(update={"rotation": "delta_axis_angle"}))
    with pytest.raises(ValidationError, match="rotation absolute_rotation_6d"):
        component(path, actions=None)


def test_sentences_from_file_names_begin_with_the_scene(path: Path) -> None:
    batch = component(path).build(None).windows(Window()).batch([0])
    assert batch.observation.instructions == ["KITCHEN SCENE3 turn on the stove"]


def test_actions_before_an_episode_are_unknown(path: Path) -> None:
    windows = component(path).build(None).windows(Window(horizon=1, past_actions=3))
    batch = windows.batch(range(sum(LENGTHS)))
    past, actions = batch.observation.past_actions, batch.actions[:, 0]
    assert past.shape == (9, 3, 10)
    for start, steps in zip((0, LENGTHS[0]), LENGTHS, strict=True):
        for now in range(steps):
            there = min(now, 3)
            assert torch.isnan(past[start + now, : 3 - there]).all()
            assert torch.equal(past[start + now, 3 - there :], actions[start + now - there : start + now])
    assert windows.batch([0]).observation.past_actions.isnan().all()
    assert component(path).build(None).windows(Window(horizon=1)).batch([0]).observation.past_actions is None


def test_past_actions_of_clips_without_actions_are_unknown(path: Path) -> None:
    silent = component(path, actionless_tasks=("KITCHEN_SCENE3_turn_on_the_stove_demo",)).build(None)
    past = silent.windows(Window(past_actions=2)).batch(range(9)).observation.past_actions
    assert past.shape == (9, 2, 10) and past.isnan().all()
