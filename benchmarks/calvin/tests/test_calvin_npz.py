"""CALVIN recordings as training windows: what comes back, where windows begin, what is kept, what is refused."""

from __future__ import annotations

import ast
import io
import os
import pickle
import shutil
import time
from pathlib import Path

import calvin_files as files
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from vpolicy_calvin.components import Calvin, CalvinNpz
from vpolicy_calvin.frames.numbers import read_numbers
from vpolicy_calvin.frames.pickled import read_pickled

from videopolicy import DataError, StorageError, Window
from videopolicy.console.progress import Reporter
from videopolicy.data.preparation import open_existing
from videopolicy.storage.store import Store
from videopolicy.testing import DatasetContract

SEGMENTS = files.SEGMENTS
STEPS = [number for _, _, (first, last) in SEGMENTS for number in range(first, last + 1)]


class TestInMemory(DatasetContract):
    @pytest.fixture
    def component(self, recorded):
        return CalvinNpz(path=recorded)


class TestOnDisk(DatasetContract):
    @pytest.fixture
    def component(self, recorded):
        return CalvinNpz(path=recorded, cameras=("rgb_gripper",), memory_limit=0, share=0.5)


@pytest.mark.parametrize("memory_limit", [2.0, 0.0], ids=["memory", "disk"])
def test_what_was_recorded_comes_back(recorded, memory_limit):
    dataset = CalvinNpz(path=recorded, memory_limit=memory_limit).build(None)
    assert dataset.splits == {"train": 3, "validation": 1}
    spaces = Calvin().spaces()
    assert dataset.spaces.actions == spaces.actions and dataset.spaces.state == spaces.state
    assert [(c.name, c.height) for c in dataset.spaces.cameras] == [("rgb_static", 20), ("rgb_gripper", 8)]
    windows = dataset.windows(Window(observed=(-1, 0), future=(2,), horizon=3))
    batch = windows.batch(range(len(windows)))
    now = 0
    for _, sentence, (first, last) in SEGMENTS:
        for number in range(first, last + 1):
            before, here, later = (files.frame(n) for n in (max(number - 1, first), number, min(number + 2, last)))
            for camera, images in batch.observation.images.items():
                seen = images[now].movedim(1, -1).numpy()
                assert np.array_equal(seen[0], before[camera]) and np.array_equal(seen[1], here[camera])
                assert np.array_equal(batch.future[camera][now, 0].movedim(0, -1).numpy(), later[camera])
            assert np.allclose(batch.observation.state[now, 1], here["robot_obs"], atol=1e-6)
            assert np.allclose(batch.actions[now, 0], here["rel_actions"], atol=1e-6)
            assert batch.action_mask[now].tolist() == [number + k <= last for k in range(3)]
            assert batch.observation.instructions[now] == sentence
            now += 1
    assert now == len(windows)
    (held,) = set(dataset.windows(Window(), "validation").batch(range(5)).observation.instructions)
    assert held == "push the drawer shut"


def test_windows_with_actions_begin_where_the_published_loader_begins_them(recorded):
    """``range(start, end + 1 - min_window_size)`` in VPP's ``datasets/disk_dataset.py``; clips begin everywhere."""
    dataset = CalvinNpz(path=recorded, steps_ahead=4).build(None)
    actions = dataset.windows(Window(horizon=2)).batch(range(len(dataset.windows(Window(horizon=2)))))
    starts = [number for _, _, (first, last) in SEGMENTS for number in range(first, last + 1 - 4)]
    expected = np.stack([files.frame(number)["rel_actions"] for number in starts])
    assert np.allclose(actions.actions[:, 0], expected, atol=1e-6) and actions.action_mask.all()
    assert len(dataset.windows(Window(future=(2,)))) == len(STEPS)
    strided = CalvinNpz(path=recorded, steps_ahead=4, window_stride=2).build(None).windows(Window(horizon=2))
    starts = [number for _, _, (first, last) in SEGMENTS for number in range(first, last + 1 - 4, 2)]
    expected = np.stack([files.frame(number)["rel_actions"] for number in starts])
    assert np.allclose(strided.batch(range(len(strided))).actions[:, 0], expected, atol=1e-6)
    with pytest.raises(DataError, match=r"None of the 3 segments .* longer than the 10 steps") as caught:
        CalvinNpz(path=recorded, steps_ahead=10).build(None).windows(Window(horizon=2))
    assert "steps_ahead" in caught.value.hint


def test_statistics_are_of_all_steps_of_the_training_segments(recorded):
    found = CalvinNpz(path=recorded).build(None).statistics()
    states = np.stack([files.frame(number)["robot_obs"] for number in STEPS])
    assert np.allclose(found.state.mean, states.mean(0), atol=1e-6)
    assert np.allclose(found.state.maximum, states.max(0), atol=1e-6)


def test_a_share_keeps_some_of_every_task_and_all_of_the_validation(tmp_path):
    segments = [(f"task_{n % 3}", f"sentence {n}", (2 * n, 2 * n + 1)) for n in range(30)]
    files.write_split(tmp_path / "training", segments)
    dataset = CalvinNpz(path=tmp_path, share=0.2).build(None)
    sentences = set(dataset.windows(Window()).batch(range(len(dataset.windows(Window())))).observation.instructions)
    assert dataset.splits == {"train": 6} and len(sentences) == 6
    assert sorted(int(s.split()[1]) % 3 for s in sentences) == [0, 0, 1, 1, 2, 2]
    few = CalvinNpz(path=tmp_path, share=0.001).build(None)
    assert few.splits == {"train": 3}


def test_numbers_are_read_once_and_again_where_files_have_changed(copied, tmp_path, monkeypatch):
    monkeypatch.setattr("vpolicy_calvin.frames.numbers.PART", 8)
    component, cache = CalvinNpz(path=copied), tmp_path / "cache"
    first = component.open(None, cache, Reporter(quiet=True))
    parts = sorted(cache.rglob("*.npz"))
    assert len(parts) == 4 and not list(cache.rglob("*.part"))  # 19 and 5 frames, eight at a time
    opened: list[str] = []
    real = np.load

    def counting(path, *arguments, **options):
        opened.append(Path(path).name)
        return real(path, *arguments, **options)

    monkeypatch.setattr(np, "load", counting)
    again = component.open(None, cache, Reporter(quiet=True))
    # one frame says how large the images are
    assert {name for name in opened if name.startswith("episode")} == {"episode_0000003.npz"}
    assert again.fingerprint() == first.fingerprint() == component.build(None).fingerprint()
    changed = copied / "training" / "episode_0000016.npz"
    np.savez_compressed(changed, **{**files.frame(16), "rel_actions": np.full(7, 0.5)})
    third = component.open(None, cache, Reporter(quiet=True))
    assert third.fingerprint() != first.fingerprint()
    assert third.fingerprint(actions=False) == first.fingerprint(actions=False)
    assert third.statistics().actions.mean != first.statistics().actions.mean
    assert len(list(cache.rglob("*.npz"))) == len(parts) + 1  # one part was read again


def test_headers_are_parsed_in_one_thread_at_a_time(copied, monkeypatch):
    # ast.parse in several threads at once ends in a SystemError now and then.
    inside, most, parse = [], [0], ast.literal_eval

    def counting(text):
        inside.append(text)
        most[0] = max(most[0], len(inside))
        time.sleep(0.002)
        inside.pop()
        return parse(text)

    monkeypatch.setattr(ast, "literal_eval", counting)
    CalvinNpz(path=copied).build(None)
    assert most == [1]


def test_a_changed_frame_is_said(copied, tmp_path):
    component, store, said = CalvinNpz(path=copied), Store(tmp_path / "home"), io.StringIO()
    reporter = Reporter(console=Console(file=said, width=400))
    for _ in range(2):
        open_existing(component, store, reporter)
        open_existing(component, store, reporter, thorough=True)
    assert "not what they were" not in said.getvalue()
    images = {key: np.zeros_like(value) for key, value in files.frame(16).items() if value.ndim == 3}
    np.savez_compressed(copied / "training" / "episode_0000016.npz", **{**files.frame(16), **images})
    with pytest.raises(DataError, match="are not what they were; since 2"):
        open_existing(component, store, reporter, thorough=True)
    open_existing(component, store, reporter)
    open_existing(component, store, reporter)
    assert said.getvalue().count("are not what they were; since 2") == 1


def test_a_damaged_part_is_read_anew_and_a_full_disk_told(recorded, tmp_path):
    component, cache = CalvinNpz(path=recorded), tmp_path / "cache"
    whole = component.open(None, cache, Reporter(quiet=True)).fingerprint()
    for part in cache.rglob("*.npz"):
        part.write_bytes(part.read_bytes()[:100])
    assert component.open(None, cache, Reporter(quiet=True)).fingerprint() == whole
    assert component.open(None, cache, Reporter(quiet=True)).fingerprint() == whole
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        component.open(None, tmp_path / "taken", Reporter(quiet=True))
    assert "move it away" in caught.value.hint


def test_being_killed_costs_one_part(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr("vpolicy_calvin.frames.numbers.PART", 5)

    def die(units: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_numbers(recorded / "training", np.array(files.FRAMES), ["rgb_static"], tmp_path, die)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    seen: list[int] = []
    read_numbers(recorded / "training", np.array(files.FRAMES), ["rgb_static"], tmp_path, seen.append)
    assert sum(seen) == len(files.FRAMES)


def test_fingerprints_follow_content_and_not_place_or_time(recorded, copied):
    base = CalvinNpz(path=recorded).build(None)
    os.utime(copied / "training" / "episode_0000003.npz", (0, 0))
    assert CalvinNpz(path=copied).build(None).fingerprint() == base.fingerprint()
    for options in ({"share": 0.4}, {"cameras": ("rgb_static",)}, {"window_stride": 2}, {"steps_ahead": 2}):
        other = CalvinNpz(path=recorded, **options).build(None)
        assert other.fingerprint() != base.fingerprint(), options
        assert (other.fingerprint(False) == base.fingerprint(False)) == ("steps_ahead" in options)
    picture = {**files.frame(3), "rgb_gripper": np.zeros((8, 8, 3), np.uint8)}
    np.savez_compressed(copied / "training" / "episode_0000003.npz", **picture)
    assert CalvinNpz(path=copied).build(None).fingerprint(False) != base.fingerprint(False)


def test_annotations_may_lie_elsewhere(copied):
    training = copied / "training"
    (training / "lang_annotations").rename(training / "lang_clip_resnet50")
    with pytest.raises(DataError, match="has no annotations") as caught:
        CalvinNpz(path=copied).build(None)
    assert "lang_clip_resnet50" in caught.value.hint
    shutil.rmtree(copied / "validation")
    assert CalvinNpz(path=copied, annotations="lang_clip_resnet50").build(None).splits == {"train": 3}
    (training / "lang_clip_resnet50" / "auto_lang_ann.npy").rename(training / "auto_lang_ann.npy")
    assert CalvinNpz(path=copied).build(None).splits == {"train": 3}
    with pytest.raises(DataError, match=r"There is no folder .*training.training") as caught:
        CalvinNpz(path=copied / "training").build(None)
    assert "task_ABC_D" in caught.value.hint
    (training / "auto_lang_ann.npy").unlink()
    with pytest.raises(DataError, match="has no annotations") as caught:
        CalvinNpz(path=copied).build(None)
    assert "Download the annotations too" in caught.value.hint


def _rename(old: str, new: str | None):
    def change(content: dict[str, np.ndarray]) -> None:
        values = content.pop(old)
        if new is not None:
            content[new] = values

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename("rel_actions", None), "rel_actions"),
        (_rename("rgb_gripper", "rgb_wrist"), "rgb_gripper"),
        (lambda content: content.update(robot_obs=np.zeros(8)), r"'robot_obs' has shape \(8,\)"),
        (lambda content: content.update(rel_actions=np.full(7, np.nan)), "of finite numbers"),
        (lambda content: content.update(rel_actions=np.array([None] * 7)), "rel_actions|allow_pickle|Object arrays"),
    ],
)
@pytest.mark.parametrize("number", [3, 16], ids=["first", "later"])
def test_a_wrong_frame_is_named(copied, change, message, number):
    content = files.frame(number)
    change(content)
    np.savez_compressed(copied / "training" / f"episode_{number:07d}.npz", **content)
    with pytest.raises(DataError, match=message) as caught:
        CalvinNpz(path=copied).build(None)
    assert f"episode_{number:07d}.npz" in caught.value.message and caught.value.hint


@pytest.mark.parametrize("damage", ["missing", "cut", "text"])
def test_a_damaged_frame_is_named(copied, tmp_path, damage):
    path = copied / "training" / "episode_0000012.npz"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:200] if damage == "cut" else b"no archive")
    for build in (lambda c: c.build(None), lambda c: c.open(None, tmp_path / "cache", Reporter(quiet=True))):
        with pytest.raises(DataError, match=r"episode_0000012\.npz (?:is missing|cannot be read)"):
            build(CalvinNpz(path=copied))


def test_images_that_are_another_size_are_told_when_they_are_read(copied):
    content = {**files.frame(12), "rgb_static": np.zeros((10, 10, 3), np.uint8)}
    np.savez_compressed(copied / "training" / "episode_0000012.npz", **content)
    dataset = CalvinNpz(path=copied, memory_limit=0).build(None)
    windows = dataset.windows(Window())
    with pytest.raises(DataError, match=r"episode_0000012\.npz .*'rgb_static' has shape \(10, 10, 3\)"):
        windows.batch(range(len(windows)))


class _Runs:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_annotations_run_nothing(copied, tmp_path):
    path, trace = copied / "training" / "lang_annotations" / "auto_lang_ann.npy", tmp_path / "it-ran"
    np.save(path, {"language": _Runs(trace)})
    with pytest.raises(DataError, match="which annotations do not need and which could run code") as caught:
        CalvinNpz(path=copied).build(None)
    assert str(path) in caught.value.message and not trace.exists()
    pickle.loads(pickle.dumps(_Runs(trace)))
    assert trace.exists()  # it would have


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_annotations_hold_survives(tmp_path, protocol):
    """Lists, tuples, strings, numpy's numbers and arrays, whatever protocol and version of numpy wrote them."""
    content = {"a": [("x", np.int64(3)), (1, 2.5)], "b": np.arange(6.0).reshape(2, 3)[:, ::-1], "c": [None, True]}
    box = np.empty((), object)
    box[()] = content
    path = tmp_path / "content.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(box))
        text = pickle.dumps(box, protocol=protocol)
        file.write(text.replace(b"numpy._core", b"numpy.core") if protocol < 4 else text)
    if protocol == 2:  # numpy writes 3 and 4; this one names a further function
        with pytest.raises(DataError, match="could run code"):
            read_pickled(path)
        return
    found = read_pickled(path)
    assert found["a"] == content["a"] and found["c"] == content["c"] and np.array_equal(found["b"], content["b"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no array", "is damaged or holds something else"),
        (None, "is damaged or holds something else: an array of shape"),
        ({"language": {"ann": ["a"], "task": ["b"]}, "info": {}}, "lacks 'indx'"),
        ({"language": {"ann": ["a"], "task": []}, "info": {"indx": [(0, 1)]}}, "1 sentences, 0 tasks and 1 stretches"),
        ({"language": {"ann": ["a"], "task": ["b"]}, "info": {"indx": [(5, 1)]}}, r"entry 0: .* frames \(5, 1\)"),
        ({"language": {"ann": [" "], "task": ["b"]}, "info": {"indx": [(0, 1)]}}, r"entry 0: .* sentence ' '"),
        ({"language": {"ann": [], "task": []}, "info": {"indx": []}}, "0 sentences"),
    ],
)
def test_wrong_annotations_are_told(copied, content, message):
    path = copied / "training" / "lang_annotations" / "auto_lang_ann.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, np.zeros(3) if content is None else content)
    with pytest.raises(DataError, match=message) as caught:
        CalvinNpz(path=copied).build(None)
    assert "auto_lang_ann.npy" in caught.value.message and caught.value.hint


def test_windows_on_disk_can_be_read_by_workers(recorded):
    windows = CalvinNpz(path=recorded, memory_limit=0).build(None).windows(Window(future=(1,)))
    loader = torch.utils.data.DataLoader(
        range(6), batch_size=2, num_workers=2, collate_fn=windows.batch, multiprocessing_context="fork"
    )
    for index, batch in enumerate(loader):
        here = windows.batch([2 * index, 2 * index + 1])
        assert torch.equal(batch.future["rgb_static"], here.future["rgb_static"])


def test_options_that_make_no_sense_are_refused(recorded):
    numbers = ({"share": 0}, {"share": 1.5}, {"steps_ahead": -1}, {"window_stride": 0})
    for options in (*numbers, {"cameras": ["rgb_tactile"]}, {"cameras": []}):
        with pytest.raises(ValidationError):
            CalvinNpz.model_validate({"path": recorded, **options})
