"""The robomimic layout as training windows."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hdf5_samples import ACTIONS, SPACES, collect, episode, foreign_file
from vpolicy_hdf5.components import RobomimicHDF5

from videopolicy import DataError, Window
from videopolicy.testing import DatasetContract


class TestCollectedContract(DatasetContract):
    @pytest.fixture
    def component(self, tmp_path: Path) -> RobomimicHDF5:
        return RobomimicHDF5(path=collect(tmp_path / "data"), validation=0.25)


class TestContractFromItsOwnWriter(DatasetContract):
    @pytest.fixture
    def component(self) -> RobomimicHDF5:
        return RobomimicHDF5(validation=0.5)


class TestForeignContract(DatasetContract):
    @pytest.fixture
    def component(self, tmp_path: Path) -> RobomimicHDF5:
        return RobomimicHDF5(
            path=foreign_file(tmp_path / "lift.hdf5"),
            actions=ACTIONS,
            orientation="bottom-up",
            state=("ee_pos", "gripper"),
            memory_limit=0,
        )


def test_what_was_recorded_comes_back_upright_and_in_order(tmp_path: Path) -> None:
    folder = collect(tmp_path / "data", tasks=("open door", "close"), attempts=(3, 11, 20))
    dataset = RobomimicHDF5(path=folder).build(None)
    assert dataset.spaces == SPACES
    assert dataset.splits == {"train": 6}
    window = dataset.windows(Window(observed=(-2, 0), future=(1, 4), horizon=3))
    originals = [episode(task, attempt) for task in ("close", "open door") for attempt in (3, 11, 20)]
    assert len(window) == sum(len(original.actions) for original in originals)
    start = 0
    for original in originals:
        steps = len(original.actions)
        batch = window.batch(range(start, start + steps))
        frames = torch.from_numpy(original.images["side"]).permute(0, 3, 1, 2)
        last = steps - 1
        assert batch.observation.instructions == [original.instruction] * steps
        for now in (0, 1, 2, steps - 2, last):
            assert torch.equal(batch.observation.images["side"][now, 0], frames[max(now - 2, 0)])
            assert torch.equal(batch.observation.images["side"][now, 1], frames[now])
            assert torch.equal(batch.future["side"][now, 1], frames[min(now + 4, last)])
            assert batch.future_mask[now].tolist() == [now + 1 <= last, now + 4 <= last]
            assert batch.action_mask[now].tolist() == [now + k <= last for k in range(3)]
            assert np.array_equal(batch.actions[now, 0], original.actions[now])
            assert np.array_equal(batch.observation.state[now, 1], original.state[now])
        start += steps
    assert dataset.initial_states() == {original.initial_state for original in originals}


def test_statistics_are_those_of_the_training_split(tmp_path: Path) -> None:
    folder = collect(tmp_path / "data", attempts=tuple(range(8)))
    dataset = RobomimicHDF5(path=folder, validation=0.25).build(None)
    assert dataset.splits == {"train": 12, "validation": 4}
    windows = dataset.windows(Window(horizon=1))
    actions = windows.batch(range(len(windows))).actions[:, 0].double()
    found = dataset.statistics().actions
    assert found.mean == pytest.approx(actions.mean(0).tolist())
    assert found.deviation == pytest.approx(actions.std(0, correction=0).tolist())
    assert found.minimum == actions.min(0).values.tolist()
    assert found.maximum == actions.max(0).values.tolist()


def test_validation_episodes_stay_held_out_when_more_are_read(tmp_path: Path) -> None:
    folder = collect(tmp_path / "data", tasks=("close",), attempts=tuple(range(10)))
    once = RobomimicHDF5(path=folder, validation=0.3).build(None)
    again = RobomimicHDF5(path=folder, validation=0.3).build(None)
    assert once.splits == again.splits == {"train": 7, "validation": 3}
    assert once.fingerprint() == again.fingerprint()
    first = once.windows(Window(horizon=1), "validation").batch([0, 1]).actions
    assert torch.equal(first, again.windows(Window(horizon=1), "validation").batch([0, 1]).actions)
    with pytest.raises(DataError, match="no split 'test'; it has train, validation"):
        once.windows(Window(), "test")


def test_memory_and_disk_give_the_same_batches(tmp_path: Path) -> None:
    folder = collect(tmp_path / "data")
    window, indices = Window(observed=(-3, 0), future=(1, 2, 9), horizon=4), [5, 0, 17, 17, 3, 21]
    memory = RobomimicHDF5(path=folder).build(None).windows(window).batch(indices)
    disk = RobomimicHDF5(path=folder, memory_limit=0).build(None).windows(window).batch(indices)
    for camera in ("side", "wrist"):
        assert torch.equal(memory.observation.images[camera], disk.observation.images[camera])
        assert torch.equal(memory.future[camera], disk.future[camera])
    assert torch.equal(memory.actions, disk.actions)


def _first_frame(windows: object, queue: multiprocessing.Queue) -> None:
    queue.put(windows.batch([7, 1]).observation.images["side"].numpy())


@pytest.mark.parametrize("memory_limit", [2.0, 0.0])
def test_windows_survive_fork_and_pickling(tmp_path: Path, memory_limit: float) -> None:
    dataset = RobomimicHDF5(path=collect(tmp_path / "data"), memory_limit=memory_limit).build(None)
    windows = dataset.windows(Window())
    here = windows.batch([7, 1]).observation.images["side"]  # the parent's file is open when it forks
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_first_frame, args=(windows, queue))
    child.start()
    there = queue.get(timeout=30)
    child.join()
    assert np.array_equal(there, here)
    copy = pickle.loads(pickle.dumps(windows))
    assert torch.equal(copy.batch([7, 1]).observation.images["side"], here)


def test_a_content_change_changes_the_fingerprint(tmp_path: Path) -> None:
    same = [RobomimicHDF5(path=collect(tmp_path / name)).build(None).fingerprint() for name in "ab"]
    other = RobomimicHDF5(path=collect(tmp_path / "c", attempts=(0, 1, 3))).build(None).fingerprint()
    assert same[0] == same[1] != other


def test_libero_layout_is_flipped_named_and_worded(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5")
    with h5py.File(path, "a") as file:
        file["data"].attrs["bddl_file_name"] = "chiliocosm/bddl_files/KITCHEN_SCENE3_turn_on_the_stove.bddl"
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": '"turn on the stove"'})
        stored = file["data/demo_0/obs/agentview_rgb"][0]
    dataset = RobomimicHDF5(
        path=path,
        cameras={"front": "agentview_rgb"},
        state=("gripper", "ee_pos"),
        orientation="bottom-up",
        actions=ACTIONS,
    ).build(None)
    assert [camera.name for camera in dataset.spaces.cameras] == ["front"]
    assert dataset.spaces.state.names == ("gripper_0", "ee_pos_0", "ee_pos_1", "ee_pos_2")
    batch = dataset.windows(Window()).batch([0])
    assert batch.observation.instructions == ["turn on the stove"]
    assert torch.equal(batch.observation.images["front"][0, 0], torch.from_numpy(stored[::-1].copy()).permute(2, 0, 1))


def test_robocasa_layout_words_per_episode_and_default_cameras(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "demo_gentex_im256_randcams.hdf5")
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = json.dumps({"env_name": "OpenDrawer"})
        for name, side in (("demo_0", "left"), ("demo_1", "right")):
            file[f"data/{name}"].attrs["ep_meta"] = json.dumps({"lang": f"open the {side} drawer"})
    dataset = RobomimicHDF5(path=path, actions=ACTIONS).build(None)
    assert [camera.name for camera in dataset.spaces.cameras] == ["agentview"]
    windows = dataset.windows(Window())
    assert windows.batch([0, len(windows) - 1]).observation.instructions == [
        "open the left drawer",
        "open the right drawer",
    ]
    reworded = RobomimicHDF5(path=path, actions=ACTIONS, instructions={"OpenDrawer": "pull"}).build(None)
    assert reworded.windows(Window()).batch([0]).observation.instructions == ["pull"]


def test_masks_of_the_file_decide_when_no_fraction_is_given(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "lift.hdf5", demos=4)
    with h5py.File(path, "a") as file:
        file["mask/valid"] = np.array([b"demo_1", b"demo_3"])
    options = {"path": path, "actions": ACTIONS, "instructions": {"lift": "lift it"}}
    assert RobomimicHDF5(**options).build(None).splits == {"train": 2, "validation": 2}
    assert RobomimicHDF5(**options, validation=0.0).build(None).splits == {"train": 4}


def test_at_most_so_many_episodes_are_read(tmp_path: Path) -> None:
    folder = collect(tmp_path / "data", attempts=tuple(range(5)))
    assert RobomimicHDF5(path=folder, episodes_per_task=2).build(None).splits == {"train": 4}
    assert RobomimicHDF5().demonstrations().episodes_per_task == 50
    assert RobomimicHDF5(episodes_per_task=7, action_noise=0.2).demonstrations().action_noise == 0.2
    assert RobomimicHDF5(path=folder).demonstrations() is None
    with pytest.raises(ValueError, match="'action_noise' has no effect"):
        RobomimicHDF5(path=folder, action_noise=0.1)
