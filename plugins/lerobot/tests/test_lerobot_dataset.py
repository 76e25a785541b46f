"""LeRobot's datasets as training windows: both layouts, videos and pictures, in memory and from disk."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from lerobot_samples import ACTIONS, CAMERA, LENGTHS, SIZE, TASK_OF, TASKS, number_of, rewritten, values, write
from vpolicy_lerobot import videos
from vpolicy_lerobot.components import LeRobotV3

from videopolicy import DataError, Window
from videopolicy.testing import DatasetContract

LAYOUTS = [("v3.0", "video"), ("v2.1", "video"), ("v2.0", "image"), ("v3.0", "image")]


def component(path: Path, **options: object) -> LeRobotV3:
    return LeRobotV3(path=path, **{"actions": ACTIONS, **options})


class TestVersion3Contract(DatasetContract):
    @pytest.fixture
    def component(self, tmp_path: Path) -> LeRobotV3:
        return component(write(tmp_path / "data"), validation=0.4, memory_limit=0)


class TestVersion2Contract(DatasetContract):
    @pytest.fixture
    def component(self, tmp_path: Path) -> LeRobotV3:
        return component(write(tmp_path / "data", "v2.1"), cameras={"eye": CAMERA})


class TestPicturesContract(DatasetContract):
    @pytest.fixture
    def component(self, tmp_path: Path) -> LeRobotV3:
        return component(write(tmp_path / "data", kind="image"), memory_limit=0, state={"s": ("observation.state", 1)})


@pytest.mark.parametrize("memory_limit", [2.0, 0.0], ids=["memory", "disk"])
@pytest.mark.parametrize(("version", "kind"), LAYOUTS)
def test_frame_i_of_a_window_is_frame_i_of_the_episode(
    tmp_path: Path, version: str, kind: str, memory_limit: float
) -> None:
    dataset = component(write(tmp_path / "data", version, kind), memory_limit=memory_limit).build(None)
    assert [(c.name, c.height, c.width) for c in dataset.spaces.cameras] == [("front", *SIZE)]
    assert dataset.spaces.state is not None and dataset.spaces.state.names == ("step", "thousand")
    assert dataset.splits == {"train": len(LENGTHS)}
    windows = dataset.windows(Window(observed=(-4, 0), future=(1, 6), horizon=2))
    assert len(windows) == sum(LENGTHS)
    order = np.random.default_rng(0).permutation(len(windows))  # as training asks for them
    rows = [windows.batch(order[start : start + 8].tolist()) for start in range(0, len(order), 8)]
    found = {int(index): (batch, row) for batch, start in zip(rows, range(0, len(order), 8), strict=True)
             for row, index in enumerate(order[start : start + 8])}  # fmt: skip
    start = 0
    for episode, length in enumerate(LENGTHS):
        actions, state = values(start, length)
        for step in range(length):
            batch, row = found[start + step]
            seen = [number_of(one.numpy()) for one in batch.observation.images["front"][row]]
            later = [number_of(one.numpy()) for one in batch.future["front"][row]]
            last = start + length - 1
            assert seen == [max(start, start + step - 4), start + step]
            assert later == [min(last, start + step + 1), min(last, start + step + 6)]
            assert batch.observation.instructions[row] == TASKS[TASK_OF[episode]]
            assert np.array_equal(batch.actions[row, 0], actions[step])
            assert np.array_equal(batch.observation.state[row, 1], state[step])
        start += length


@pytest.mark.parametrize("options", [{"g": "2", "bf": "0"}, {"g": "250", "bf": "0"}, {"g": "250", "bf": "3"}])
def test_every_frame_comes_alone_whatever_the_keyframes(tmp_path: Path, options: dict[str, str]) -> None:
    dataset = component(write(tmp_path / "data", **options), memory_limit=0).build(None)
    windows = dataset.windows(Window())
    for index in np.random.default_rng(1).permutation(sum(LENGTHS)).tolist():
        assert number_of(windows.batch([index]).observation.images["front"][0, 0].numpy()) == index


def test_a_stretch_of_frames_is_decoded_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = component(write(tmp_path / "data", g="5", bf="0"), memory_limit=0).build(None)
    windows = dataset.windows(Window(observed=tuple(range(-6, 1)), future=tuple(range(1, 5))))
    jumps = []
    jump = videos._Video._jump
    monkeypatch.setattr(videos._Video, "_jump", lambda self, second: (jumps.append(second), jump(self, second))[1])
    windows.batch([13])
    assert len(jumps) == 1  # what is to come follows what is seen
    windows.batch([12])
    assert len(jumps) == 2


def test_decoders_are_few_and_go_into_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "OPEN", 2)
    dataset = component(write(tmp_path / "data", "v2.1"), memory_limit=0).build(None)
    windows = dataset.windows(Window())
    first = windows.batch(range(sum(LENGTHS))).observation.images["front"]
    assert len(windows._frames._videos._opened) == 2
    copy = pickle.loads(pickle.dumps(windows))
    assert not copy._frames._videos._opened
    with multiprocessing.get_context("fork").Pool(1) as pool:
        there = pool.apply(_frames, (copy,))
    assert np.array_equal(there, first.numpy())


def _frames(windows: object) -> np.ndarray:
    return windows.batch(range(sum(LENGTHS))).observation.images["front"].numpy()


def test_splits_are_those_of_the_data_or_of_the_recipe(tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    rewritten(root, splits={"train": "0:3", "val": "3:4"})
    dataset = component(root).build(None)
    assert dataset.splits == {"train": 3, "validation": 1}
    assert len(dataset.windows(Window(), "validation")) == LENGTHS[3]
    assert dataset.statistics().actions.maximum[0] == pytest.approx((sum(LENGTHS[:3]) - 1) / 100)
    assert component(root, validation=0.0).build(None).splits == {"train": 4}


def test_columns_are_chosen_by_the_recipe(tmp_path: Path) -> None:
    actions = ACTIONS.model_copy(update={"names": ("z", "x"), "low": (-1.0, -1.0), "high": (1.0, 1.0)})
    options = {"actions": actions, "action_dimensions": (2, 0), "orientation": "mirrored"}
    built = component(write(tmp_path / "data"), state={"t": ("observation.state", 1)}, **options)
    dataset = built.build(None)
    batch = dataset.windows(Window(horizon=1)).batch([20])
    assert batch.actions[0, 0].tolist() == pytest.approx([0.1, 0.2])
    assert batch.observation.state[0, 0].tolist() == [1020.0]
    assert dataset.spaces.cameras[0].orientation == "mirrored" == built.declared().orientation


def test_what_windows_show_decides_the_fingerprint(tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    usual = component(root).build(None)
    assert component(root, window_stride=2).build(None).fingerprint() != usual.fingerprint()
    repeated = component(root, action_padding="repeat").build(None)
    assert repeated.fingerprint() != usual.fingerprint()
    assert repeated.fingerprint(actions=False) == usual.fingerprint(actions=False)
    assert len(component(root, window_stride=2).build(None).windows(Window())) == sum(-(-one // 2) for one in LENGTHS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actions": None}, "does not say what its actions mean"),
        ({"actions": ACTIONS.model_copy(update={"rate": 20.0})}, "10 steps a second, and `actions` a rate of 20"),
        ({"cameras": {"a": "observation.images.frnot"}}, "no camera 'observation.images.frnot'.* Did you mean"),
        ({"state": {"s": ("observation.state", 2)}}, "has 2 dimensions, so there is no column 2 for 's'"),
        ({"action": "actions"}, "no numbers 'actions'.* Did you mean 'action'"),
        ({"action_dimensions": (0, 1)}, "has 2 dimensions where 3 are described"),
        ({"action_dimensions": (0, 1, 3)}, "has 3 dimensions, so there is no column 3"),
        ({"instructions": {TASKS[0]: " "}}, "task 0 is 'pick the cup', which is no sentence"),
    ],
)
def test_options_that_do_not_fit_the_data_are_explained(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        component(write(tmp_path / "data"), **options).build(None)
    assert caught.value.hint
