"""Replay buffers as training windows: folders and archives, both formats, bytes and floats."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from pydantic import ValidationError
from rich.console import Console
from vpolicy_zarr.components import ReplayBufferZarr
from zarr.storage import ZipStore

from videopolicy import ActionSpace, DataError, Window
from videopolicy.console.progress import Reporter
from videopolicy.data.preparation import open_existing
from videopolicy.storage import digests
from videopolicy.storage.store import Store
from videopolicy.testing import DatasetContract

ACTIONS = ActionSpace(
    names=("x", "y"), low=(0.0, 0.0), high=(512.0, 512.0), control="planar_target", gripper="none", rate=10.0
)
LENGTHS = (6, 9, 4, 7)
ENDS = np.cumsum(LENGTHS)


def content(images: type = np.float32) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    steps = sum(LENGTHS)
    return {
        "data/img": random.integers(0, 256, (steps, 12, 8, 3)).astype(images),
        "data/state": random.uniform(0, 512, (steps, 5)).astype(np.float32),
        "data/action": random.uniform(0, 512, (steps, 2)).astype(np.float32),
        "meta/episode_ends": ENDS.astype(np.int64),
    }


def write(path: Path, arrays: dict[str, np.ndarray], zarr_format: int = 2) -> Path:
    """A buffer as Diffusion Policy's own code writes it (format 2), or in the newer one."""
    store = ZipStore(path, mode="w") if path.suffix == ".zip" else path
    root = zarr.open_group(store, mode="w", zarr_format=zarr_format)
    for name, values in arrays.items():
        chunks = (5, *values.shape[1:]) if values.ndim == 4 else values.shape
        root.create_array(name, data=values, chunks=chunks)
    if isinstance(store, ZipStore):
        store.close()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "pusht.zarr", content())


def component(path: Path, **options: object) -> ReplayBufferZarr:
    common = {
        "cameras": {"image": "img"},
        "state": {"agent_x": ("state", 0), "agent_y": ("state", 1)},
        "actions": ACTIONS,
        "instruction": "push the T",
    }
    return ReplayBufferZarr(path=path, **{**common, **options})


class TestFolderContract(DatasetContract):
    @pytest.fixture
    def component(self, path: Path) -> ReplayBufferZarr:
        return component(path, validation=0.25)


class TestArchiveContract(DatasetContract):
    @pytest.fixture
    def component(self, tmp_path: Path) -> ReplayBufferZarr:
        buffer = write(tmp_path / "pusht.zarr.zip", content(np.uint8))
        return component(buffer, state={}, memory_limit=0)


@pytest.mark.parametrize("memory_limit", [2.0, 0.0], ids=["memory", "disk"])
@pytest.mark.parametrize(("name", "zarr_format"), [("a.zarr", 2), ("a.zarr.zip", 2), ("a.zarr", 3)])
def test_what_was_recorded_comes_back(tmp_path: Path, memory_limit: float, name: str, zarr_format: int) -> None:
    arrays = content()
    dataset = component(write(tmp_path / name, arrays, zarr_format), memory_limit=memory_limit).build(None)
    assert [(c.name, c.height, c.width) for c in dataset.spaces.cameras] == [("image", 12, 8)]
    assert dataset.spaces.state.names == ("agent_x", "agent_y") and dataset.splits == {"train": 4}
    windows = dataset.windows(Window(observed=(-2, 0), future=(1, 3), horizon=2, past_actions=2))
    assert len(windows) == sum(LENGTHS)
    batch = windows.batch(range(len(windows)))
    frames = torch.from_numpy(arrays["data/img"]).movedim(-1, 1).byte()
    start = 0
    for length in LENGTHS:
        last = start + length - 1
        for now in range(start, start + length):
            seen = batch.observation
            assert torch.equal(seen.images["image"][now], frames[[max(now - 2, start), now]])
            assert torch.equal(batch.future["image"][now], frames[[min(now + 1, last), min(now + 3, last)]])
            assert batch.future_mask[now].tolist() == [now + 1 <= last, now + 3 <= last]
            assert np.array_equal(seen.state[now, 1], arrays["data/state"][now, :2])
            assert np.array_equal(batch.actions[now, 0], arrays["data/action"][now])
            assert batch.action_mask[now].tolist() == [True, now + 1 <= last]
            before = [now - 2 >= start, now - 1 >= start]
            assert (~seen.past_actions[now].isnan().any(-1)).tolist() == before
            if before[1]:
                assert np.array_equal(seen.past_actions[now, 1], arrays["data/action"][now - 1])
        start += length
    assert batch.observation.instructions == ["push the T"] * len(windows)


def test_statistics_and_windows_leave_out_what_is_held_out(path: Path) -> None:
    dataset = component(path, validation=0.25).build(None)
    assert dataset.splits == {"train": 3, "validation": 1}
    train = dataset.windows(Window(horizon=1)).batch(range(len(dataset.windows(Window())))).actions[:, 0]
    held = dataset.windows(Window(horizon=1), "validation")
    assert len(train) + len(held) == sum(LENGTHS)
    found = dataset.statistics()
    assert found.actions.minimum == pytest.approx(train.min(0).values.tolist())
    assert found.actions.mean == pytest.approx(train.double().mean(0).tolist())
    assert len(found.state.mean) == 2


def test_windows_may_skip_steps(path: Path) -> None:
    windows = component(path, window_stride=4).build(None).windows(Window(horizon=1))
    starts = [0, 4, 6, 10, 14, 15, 19, 23]
    actions = windows.batch(range(len(windows))).actions[:, 0].numpy()
    assert np.array_equal(actions, content()["data/action"][starts])


def test_the_last_action_is_repeated_and_counted_only_when_asked(path: Path) -> None:
    repeating = component(path, action_padding="repeat").build(None)
    windows = repeating.windows(Window(horizon=3))
    batch = windows.batch(range(len(windows)))
    assert batch.action_mask.all()
    start, recorded = 0, content()["data/action"]
    for length in LENGTHS:
        last = start + length - 1
        for now in range(start, start + length):
            expected = recorded[[min(now + step, last) for step in range(3)]]
            assert np.array_equal(batch.actions[now], expected)
        start += length
    plain = component(path).build(None)
    assert plain.fingerprint() != repeating.fingerprint() and plain.fingerprint(False) == repeating.fingerprint(False)


def test_states_to_come_are_those_of_the_episode(path: Path) -> None:
    windows = component(path).build(None).windows(Window(future_states=(1, 2, 5)))
    batch = windows.batch(range(len(windows)))
    start, recorded = 0, content()["data/state"][:, :2]
    for length in LENGTHS:
        last = start + length - 1
        for now in range(start, start + length):
            steps = [now + 1, now + 2, now + 5]
            assert np.array_equal(batch.future_state[now], recorded[np.minimum(steps, last)])
            assert batch.future_state_mask[now].tolist() == [step <= last for step in steps]
        start += length
    stateless = component(path, state={}).build(None).windows(Window(future_states=(1,))).batch([0])
    assert stateless.future_state is None and stateless.future_state_mask is None


def _first(windows: object, queue: multiprocessing.Queue) -> None:
    queue.put(windows.batch([7, 1]).observation.images["image"].numpy())


@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
def test_windows_on_disk_survive_fork_and_pickling(tmp_path: Path, name: str) -> None:
    windows = component(write(tmp_path / name, content()), memory_limit=0).build(None).windows(Window())
    here = windows.batch([7, 1]).observation.images["image"]  # the parent has the buffer open when it forks
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_first, args=(windows, queue))
    child.start()
    there = queue.get(timeout=30)
    child.join()
    assert np.array_equal(there, here)
    assert torch.equal(pickle.loads(pickle.dumps(windows)).batch([7, 1]).observation.images["image"], here)


def test_fingerprints_follow_content_and_cutting(tmp_path: Path) -> None:
    arrays = content()
    base = component(write(tmp_path / "a.zarr", arrays)).build(None)
    assert component(write(tmp_path / "b.zarr", arrays)).build(None).fingerprint() == base.fingerprint()
    assert component(tmp_path / "a.zarr", memory_limit=0).build(None).fingerprint() == base.fingerprint()
    for options in ({"validation": 0.25}, {"window_stride": 2}, {"instruction": "push it"}, {"state": {}}):
        assert component(tmp_path / "a.zarr", **options).build(None).fingerprint() != base.fingerprint(), options
    moved = {**arrays, "data/action": arrays["data/action"] + 1}
    other = component(write(tmp_path / "c.zarr", moved)).build(None)
    assert other.fingerprint() != base.fingerprint()
    assert other.fingerprint(actions=False) == base.fingerprint(actions=False)  # the same videos


@pytest.mark.parametrize("suffix", ["zarr", "zarr.zip"])
def test_black_pictures_in_the_middle_are_other_data(tmp_path: Path, suffix: str) -> None:
    arrays, store, said = content(np.uint8), Store(tmp_path / "home"), io.StringIO()
    reporter = Reporter(console=Console(file=said, width=400))

    def held(name: str) -> str:
        data = component(tmp_path / name)
        return digests.content(store, open_existing(data, store, reporter).files())

    write(tmp_path / f"a.{suffix}", arrays)
    first = held(f"a.{suffix}")
    assert held(f"a.{suffix}") == first
    arrays["data/img"][10] = 0
    shutil.rmtree(tmp_path / f"a.{suffix}") if suffix == "zarr" else (tmp_path / f"a.{suffix}").unlink()
    write(tmp_path / f"a.{suffix}", arrays)
    assert held(f"a.{suffix}") != first and "are not what they were; since 2" in said.getvalue()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"cameras": {"image": "imgs"}}, r"no array 'data/imgs'\. Did you mean 'data/img'\?"),
        ({}, {"cameras": {"image": "state"}}, r"'data/state' has shape \(26, 5\)"),
        ({}, {"state": {"agent_x": ("state", 5)}}, r"5 dimensions, so there is no column 5 for 'agent_x'"),
        ({}, {"action": "state"}, r"'data/state' has 5 dimensions where 2 are described \(x, y\)"),
        ({"data/action": None}, {}, r"no array 'data/action'\."),
        ({"meta/episode_ends": None}, {}, r"no array 'meta/episode_ends'"),
        ({"meta/episode_ends": np.array([6, 6, 26])}, {}, "must be whole numbers that ascend"),
        ({"meta/episode_ends": np.array([6, 30])}, {}, r"'data/action' has shape \(26, 2\)"),
        ({"data/action": np.full((26, 2), np.nan, np.float32)}, {}, "'data/action' is not finite at step 0"),
        ({"data/img": np.full((26, 4, 4, 3), 0.5, np.float32)}, {}, "floats up to 0.5, not up to 255"),
    ],
)
def test_mistakes_are_told_with_buffer_and_array(tmp_path: Path, change, options, message) -> None:
    arrays = {name: values for name, values in {**content(), **change}.items() if values is not None}
    with pytest.raises(DataError, match=message) as caught:
        component(write(tmp_path / "a.zarr", arrays), **options).build(None)
    assert "a.zarr" in caught.value.message and caught.value.hint


def test_floats_beyond_bytes_are_refused_when_they_are_read(tmp_path: Path) -> None:
    arrays = content()
    arrays["data/img"][20] = 300
    dataset = component(write(tmp_path / "a.zarr", arrays)).build(None)
    with pytest.raises(DataError, match="range from 0 to 300"):
        dataset.windows(Window())


def test_what_is_no_buffer_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        component(tmp_path / "missing.zarr").build(None)
    (tmp_path / "text.zarr.zip").write_text("no archive")
    with pytest.raises(DataError, match=r"text\.zarr\.zip cannot be read"):
        component(tmp_path / "text.zarr.zip").build(None)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(DataError, match=r"empty\.zarr"):
        component(tmp_path / "empty.zarr").build(None)
    with pytest.raises(ValidationError, match="instruction"):
        component(tmp_path, instruction="")
