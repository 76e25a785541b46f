"""RoboCasa v0.1's and LIBERO's own layouts, and what Video Policy needs of them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from vpolicy_hdf5.components import RobomimicHDF5

from videopolicy import ActionSpace, DataError, Window
from videopolicy.testing import DatasetContract

ARM = ActionSpace(
    names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    low=(-1.0,) * 7,
    high=(1.0,) * 7,
    control="delta_position",
    rotation="delta_axis_angle",
    gripper="positive_closes",
    rate=20.0,
)
CAMERAS = {
    "gripper": "robot0_eye_in_hand_image",
    "left": "robot0_agentview_left_image",
    "right": "robot0_agentview_right_image",
}
TASKS = {
    "OpenDrawer": "kitchen_drawer/OpenDrawer/2024-05-03",
    "TurnOffMicrowave": "kitchen_microwave/TurnOffMicrowave/2024-04-25",
    "TurnOnStove": "kitchen_stove/TurnOnStove/2024-05-02",
}
HUMAN, SMALL = "demo_gentex_im256_randcams.hdf5", "demo_gentex_im128_randcams.hdf5"
LENGTHS = (6, 9, 5)


def robocasa_file(path: Path, task: str, size: int, lengths: tuple[int, ...] = LENGTHS, actions: bool = True) -> Path:
    """A file as RoboCasa v0.1's own scripts write it, with tiny images."""
    random = np.random.default_rng([len(lengths), *task.encode()])
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": task, "type": 1, "env_kwargs": {"robots": "PandaMobile"}})
        data.attrs["total"] = sum(lengths)
        for number, steps in enumerate(lengths):
            demo = data.create_group(f"demo_{number}")
            if actions:
                demo["actions"] = random.uniform(-1, 1, (steps, 12))
            demo["states"] = random.normal(size=(steps, 5))
            for key in CAMERAS.values():
                demo[f"obs/{key}"] = random.integers(0, 256, (steps, size, size, 3), dtype=np.uint8)
            demo["obs/robot0_gripper_qpos"] = random.normal(size=(steps, 2))
            demo.attrs["num_samples"] = steps
            demo.attrs["ep_meta"] = json.dumps({"lang": f"{task} number {number}", "layout_id": 1, "style_id": 1})
        names = [f"demo_{number}".encode() for number in range(len(lengths))]
        file["mask/2_demos"] = np.array(names[:2])
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Human demonstrations in two sizes, and generated ones in a folder further down."""
    for task, folder in TASKS.items():
        place = tmp_path / "v0.1" / "single_stage" / folder
        robocasa_file(place / HUMAN, task, 16)
        robocasa_file(place / SMALL, task, 8)
        robocasa_file(place.parent / "mg" / "2024-05-04-22-12-27" / HUMAN, task, 16, lengths=(4, 4, 4, 4))
    return tmp_path / "v0.1" / "single_stage"


def component(root: Path, **options: object) -> RobomimicHDF5:
    common = {"files": f"*/*/*/{HUMAN}", "cameras": CAMERAS, "actions": ARM, "action_dimensions": tuple(range(7))}
    return RobomimicHDF5(path=root, **{**common, **options})


def all_of(options: RobomimicHDF5, window: Window):
    windows = options.build(None).windows(window)
    return windows.batch(range(len(windows)))


class TestRobocasaContract(DatasetContract):
    @pytest.fixture
    def component(self, root: Path) -> RobomimicHDF5:
        return component(root, state=("robot0_gripper_qpos",), memory_limit=0)


class TestContractWithActionlessTasks(DatasetContract):
    @pytest.fixture
    def component(self, root: Path) -> RobomimicHDF5:
        return component(root, state=("robot0_gripper_qpos",), actionless_tasks=("TurnOnStove",))


def recorded(root: Path, task: str, number: int) -> np.ndarray:
    with h5py.File(root / TASKS[task] / HUMAN) as file:
        return file[f"data/demo_{number}/actions"][()].astype(np.float32)[:, :7]


def test_the_pattern_chooses_among_sizes_and_kinds(root: Path) -> None:
    dataset = component(root).build(None)
    assert dataset.splits == {"train": 9}
    assert [(camera.name, camera.height) for camera in dataset.spaces.cameras] == [
        ("gripper", 16),
        ("left", 16),
        ("right", 16),
    ]
    assert component(root, files=f"*/*/mg/*/{HUMAN}").build(None).splits == {"train": 12}
    with pytest.raises(DataError, match=r"(?s)cameras' images is .*Choose files of one kind with `files`") as caught:
        component(root, files="**/*.hdf5").build(None)
    assert "(8, 8)" in caught.value.message and "(16, 16)" in caught.value.message
    with pytest.raises(DataError, match=r"holds no file 'demo_im512\.hdf5', only .*and 5 more"):
        component(root, files="demo_im512.hdf5").build(None)


def test_the_arm_is_moved_by_seven_of_twelve_numbers(root: Path) -> None:
    batch = all_of(component(root), Window(horizon=1))
    assert np.array_equal(batch.actions[: LENGTHS[0], 0].numpy(), recorded(root, "OpenDrawer", 0))
    assert batch.observation.instructions[LENGTHS[0]] == "OpenDrawer number 1"
    twisted = all_of(component(root, action_dimensions=(6, 5, 4, 3, 2, 1, 0)), Window(horizon=1))
    assert torch.equal(twisted.actions, batch.actions.flip(-1))
    with pytest.raises(DataError, match=r"'actions' has 12 dimensions, so there is no dimension 12"):
        component(root, action_dimensions=(0, 1, 2, 3, 4, 5, 12)).build(None)
    with pytest.raises(DataError, match="12 dimensions where 7 are described"):
        component(root, action_dimensions=()).build(None)
    with pytest.raises(ValidationError, match="chooses 2 columns, and 'actions' describes 7"):
        component(root, action_dimensions=(0, 1))
    with pytest.raises(ValidationError, match="different columns"):
        component(root, action_dimensions=(0, 1, 2, 3, 4, 5, 5))


def test_clips_without_actions_are_training_data_whose_actions_nobody_sees(root: Path) -> None:
    plain, dataset = component(root).build(None), component(root, actionless_tasks=("TurnOnStove",)).build(None)
    window = Window(future=(1, 2), horizon=3)
    with_all, windows = plain.windows(window), dataset.windows(window)
    assert len(windows) == len(with_all) == 3 * sum(LENGTHS)
    rows = range(len(windows))
    ours, theirs = windows.batch(rows), with_all.batch(rows)
    silent = torch.tensor(["Stove" in sentence for sentence in ours.observation.instructions])
    assert silent.sum() == sum(LENGTHS)
    assert torch.isnan(ours.actions[silent]).all() and not ours.action_mask[silent].any()
    assert torch.equal(ours.actions[~silent], theirs.actions[~silent])
    assert torch.equal(ours.action_mask[~silent], theirs.action_mask[~silent])
    for camera in CAMERAS:  # the video stays
        assert torch.equal(ours.future[camera], theirs.future[camera])
    assert torch.equal(ours.future_mask, theirs.future_mask)
    assert dataset.fingerprint() != plain.fingerprint()
    assert dataset.fingerprint(actions=False) == plain.fingerprint(actions=False)  # the same videos


def test_statistics_leave_out_actions_that_nobody_sees(root: Path) -> None:
    options = {"state": ("robot0_gripper_qpos",)}
    plain = component(root, **options).build(None).statistics()
    some = component(root, actionless_tasks=("TurnOnStove", "OpenDrawer"), **options).build(None).statistics()
    seen = np.concatenate([recorded(root, "TurnOffMicrowave", number) for number in range(3)])
    assert some.actions.minimum == pytest.approx(seen.min(0).tolist())
    assert some.actions.maximum == pytest.approx(seen.max(0).tolist())
    assert some.actions.maximum != plain.actions.maximum
    assert some.state == plain.state
    none = component(root, actionless_tasks=tuple(TASKS), **options).build(None).statistics()
    assert none.actions.minimum == [-1.0] * 7 and none.actions.mean == [0.0] * 7
    assert none.actions.deviation == pytest.approx([1 / 3**0.5] * 7)


def test_a_fraction_chooses_tasks_by_their_names(root: Path) -> None:
    def silent(**options: object) -> set[str]:
        batch = all_of(component(root, **options), Window(horizon=1))
        return {
            sentence.split()[0]
            for sentence, mask in zip(batch.observation.instructions, batch.action_mask, strict=True)
            if not mask[0]
        }

    third, most = silent(actionless_tasks=1 / 3), silent(actionless_tasks=0.99)
    assert len(third) == 1 and len(most) == 2 and third < most  # one task keeps its actions
    assert silent(actionless_tasks=1 / 3, files=f"*/[OT]*/*/{HUMAN}") == third
    with pytest.raises(ValidationError):
        component(root, actionless_tasks=1.5)


def test_video_files_need_no_actions(root: Path) -> None:
    path = robocasa_file(root / "kitchen_pnp/PnPCounterToCab/2024-04-24" / HUMAN, "PnPCounterToCab", 16, actions=False)
    batch = all_of(component(root, actionless_tasks=("PnPCounterToCab",)), Window(horizon=2))
    assert batch.action_mask[:, 0].sum() == 3 * sum(LENGTHS) == len(batch) - sum(LENGTHS)
    with pytest.raises(DataError, match="has no 'actions'") as caught:
        component(root).build(None)
    assert str(path) in caught.value.message and "actionless_tasks" in caught.value.hint
    with pytest.raises(DataError, match=r"names the task 'TurnOnStov'.* Did you mean 'TurnOnStove'\?"):
        component(root, actionless_tasks=("TurnOnStov",)).build(None)


def test_zeros_past_the_end_are_trained_on_only_when_asked(root: Path) -> None:
    window = Window(horizon=4)
    masked = all_of(component(root), window)
    padded = all_of(component(root, action_padding="zero", actionless_tasks=("TurnOnStove",)), window)
    seen = torch.tensor(["Stove" not in sentence for sentence in padded.observation.instructions])
    assert padded.action_mask[seen].all() and not padded.action_mask[~seen].any()
    there = masked.action_mask & seen[:, None]
    assert torch.equal(padded.actions[there], masked.actions[there])
    past = ~masked.action_mask & seen[:, None]
    assert past.any() and (padded.actions[past] == 0).all()
    assert torch.isnan(padded.actions[~seen]).all()


def test_the_last_action_is_repeated_and_counted_only_when_asked(root: Path) -> None:
    window = Window(horizon=4)
    masked = all_of(component(root), window)
    repeated = all_of(component(root, action_padding="repeat", actionless_tasks=("TurnOnStove",)), window)
    seen = torch.tensor(["Stove" not in sentence for sentence in repeated.observation.instructions])
    assert repeated.action_mask[seen].all() and not repeated.action_mask[~seen].any()
    assert torch.isnan(repeated.actions[~seen]).all()
    last = masked.action_mask.sum(dim=1) - 1  # of every window, the last action that was recorded
    assert (last[seen] < 3).any()
    for actions, of_episode, row in zip(repeated.actions[seen], masked.actions[seen], last[seen], strict=True):
        assert torch.equal(actions[: row + 1], of_episode[: row + 1])
        assert torch.equal(actions[row:], of_episode[row].expand(4 - int(row), -1))
    assert (
        component(root, action_padding="repeat").build(None).fingerprint() != component(root).build(None).fingerprint()
    )


def test_skipped_episodes_are_left_out_of_windows_and_statistics(root: Path) -> None:
    dataset = component(root, skip={"TurnOnStove": ("demo_1",)}).build(None)
    assert dataset.splits == {"train": 8}
    windows = dataset.windows(Window())
    sentences = set(windows.batch(range(len(windows))).observation.instructions)
    assert "TurnOnStove number 1" not in sentences and {"TurnOnStove number 0", "TurnOffMicrowave number 1"} < sentences
    with h5py.File(root / TASKS["TurnOnStove"] / HUMAN, "a") as file:
        file["data/demo_1/actions"][0, 0] = 9.0  # an outlier, as of a base that moves
    left = [
        recorded(root, task, number) for task in TASKS for number in range(3) if (task, number) != ("TurnOnStove", 1)
    ]
    assert component(root, skip={"TurnOnStove": ("demo_1",)}).build(None).statistics().actions.maximum == pytest.approx(
        np.concatenate(left).max(0).tolist()
    )
    assert component(root).build(None).statistics().actions.maximum[0] == 9.0
    with pytest.raises(DataError, match=r"no episode 'demo_33' to skip\."):
        component(root, skip={"TurnOnStove": ("demo_33",)}).build(None)
    with pytest.raises(DataError, match="`skip` names the task 'Stove'"):
        component(root, skip={"Stove": ("demo_0",)}).build(None)
    with pytest.raises(DataError, match="leaves no episode of task 'OpenDrawer'"):
        component(root, skip={"OpenDrawer": ("demo_0", "demo_1", "demo_2")}).build(None)


def test_a_filter_key_chooses_a_subset_that_the_files_name(root: Path) -> None:
    assert component(root, filter_key="2_demos").build(None).splits == {"train": 6}
    assert component(root, filter_key="2_demos", skip={"OpenDrawer": ("demo_0",)}).build(None).splits == {"train": 5}
    with pytest.raises(DataError, match="no episodes under the filter key '300_demos'; its masks are 2_demos"):
        component(root, filter_key="300_demos").build(None)


def test_files_of_one_name_that_say_nothing_are_called_after_their_folders(root: Path) -> None:
    for folder in TASKS.values():
        with h5py.File(root / folder / HUMAN, "a") as file:
            del file["data"].attrs["env_args"]
    names = {"kitchen_stove/TurnOnStove/2024-05-02": ("demo_0",)}
    assert component(root, skip=names).build(None).splits == {"train": 8}


def test_libero_files_of_several_tasks_are_read_as_they_lie(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tasks = ("KITCHEN_SCENE3_turn_on_the_stove", "STUDY_SCENE1_pick_up_the_book")
    for task in tasks:
        with h5py.File(tmp_path / f"{task}_demo.hdf5", "w") as file:
            data = file.create_group("data")
            sentence = task.split("_", 2)[2].replace("_", " ")
            data.attrs["bddl_file_name"] = f"chiliocosm/bddl_files/libero_10/{task}.bddl"
            data.attrs["problem_info"] = json.dumps({"language_instruction": sentence})
            data.attrs["env_args"] = json.dumps({"env_name": "Libero_Kitchen_Tabletop_Manipulation"})
            for number in range(2):
                demo = data.create_group(f"demo_{number}")
                demo["actions"] = random.uniform(-1, 1, (5, 7))
                for key in ("agentview_rgb", "eye_in_hand_rgb"):
                    demo[f"obs/{key}"] = random.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
                demo.attrs["num_samples"] = 5
    options = {"path": tmp_path, "actions": ARM, "orientation": "bottom-up"}
    cameras = {"agentview": "agentview_rgb", "robot0_eye_in_hand": "eye_in_hand_rgb"}
    batch = all_of(
        RobomimicHDF5(**options, cameras=cameras, actionless_tasks=(tasks[1],)), Window(future=(1,), horizon=2)
    )
    assert set(batch.observation.instructions) == {"turn on the stove", "pick up the book"}
    told = torch.tensor([sentence == "turn on the stove" for sentence in batch.observation.instructions])
    assert torch.equal(batch.action_mask[:, 0], told)
    with h5py.File(tmp_path / f"{tasks[0]}_demo.hdf5") as file:
        stored = file["data/demo_0/obs/agentview_rgb"][0]
    upright = torch.from_numpy(stored[::-1].copy()).movedim(-1, 0)
    assert torch.equal(batch.observation.images["agentview"][0, 0], upright)
