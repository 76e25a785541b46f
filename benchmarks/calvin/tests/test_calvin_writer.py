"""Collected demonstrations in CALVIN's own layout: what is written, what a kill leaves behind, what is said of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from vpolicy_calvin.components import Calvin, CalvinNpz
from vpolicy_calvin.frames.collected import MARKER
from vpolicy_calvin.frames.pickled import read_pickled
from vpolicy_calvin.frames.writer import CalvinWriter

from videopolicy import Camera, DataError, Episode, Spaces, Window

DECLARED = Calvin().spaces()
SMALL = (("rgb_static", 20), ("rgb_gripper", 8))
SPACES = Spaces(
    cameras=tuple(Camera(name=name, height=size, width=size) for name, size in SMALL),
    actions=DECLARED.actions,
    state=DECLARED.state,
)
STEPS = 6


def episode(task: str, attempt: int, success: bool = True, table: str = "D") -> Episode:
    random = np.random.default_rng([attempt, len(task)])
    states = random.uniform(-1, 1, (STEPS, 39))
    return Episode(
        task=task,
        instruction=f"{task} in words {attempt}",
        images={name: random.integers(0, 256, (STEPS, size, size, 3), np.uint8) for name, size in SMALL},
        actions=random.uniform(-1, 1, (STEPS, 7)).astype(np.float32),
        state=states[:, :15].astype(np.float32),
        initial_state=f"{task}-{attempt}",
        success=success,
        attempt=attempt,
        states=states,
        arrays={"absolute_actions": random.uniform(-1, 1, (STEPS, 7))},
        facts={"expert": "scripted", "table": table},
    )


EPISODES = [episode("open_drawer", 0, table="D"), episode("open_drawer", 1, success=False), episode("open_drawer", 2)]
EPISODES += [episode("turn_on_led", 0, table="B")]
CHOSEN = {"open_drawer": [0, 2], "turn_on_led": [0]}


def collect(folder: Path) -> Path:
    writer = CalvinWriter(folder, SPACES)
    for one in EPISODES:
        writer.add(one)
    return writer.finish(CHOSEN)


def test_what_was_collected_is_read_as_recordings_are(tmp_path):
    folder = collect(tmp_path / "data")
    dataset = CalvinNpz().build(folder)
    assert dataset.splits == {"train": 3}
    assert dataset.remarks == ("3 of 3 episodes are demonstrations of a scripted expert, not of a human",)
    assert dataset.initial_states() == {"turn_on_led-0", "open_drawer-0", "open_drawer-2"}
    batch = dataset.windows(Window(horizon=2)).batch(range(3 * STEPS))
    kept = [EPISODES[3], EPISODES[0], EPISODES[2]]  # table B, then D
    assert batch.observation.instructions == [one.instruction for one in kept for _ in range(STEPS)]
    assert np.allclose(batch.actions[:, 0], np.concatenate([one.actions for one in kept]), atol=1e-6)
    assert np.allclose(batch.observation.state[:, 0], np.concatenate([one.state for one in kept]), atol=1e-6)
    seen = batch.observation.images["rgb_gripper"][:, 0].movedim(1, -1).numpy()
    assert np.array_equal(seen, np.concatenate([one.images["rgb_gripper"] for one in kept]))


def test_the_layout_is_that_of_the_published_data(tmp_path):
    training = collect(tmp_path / "data") / "training"
    assert [path.name for path in sorted(tmp_path.glob("data/*"))] == [MARKER, "training"]
    with np.load(training / "episode_0000006.npz") as frame:  # the first one on table D
        shapes = {name: frame[name].shape for name in frame.files}
        assert np.array_equal(frame["scene_obs"], EPISODES[0].states[0, 15:])
    assert shapes == {
        "rel_actions": (7,),
        "actions": (7,),
        "robot_obs": (15,),
        "scene_obs": (24,),
        "rgb_static": (20, 20, 3),
        "rgb_gripper": (8, 8, 3),
    }
    assert np.load(training / "ep_start_end_ids.npy").tolist() == [[0, 5], [6, 11], [12, 17]]
    assert np.load(training / "ep_lens.npy").tolist() == [6, 6, 6]
    assert read_pickled(training / "scene_info.npy") == {"calvin_scene_B": [0, 5], "calvin_scene_D": [6, 17]}
    annotations = read_pickled(training / "lang_annotations" / "auto_lang_ann.npy")
    assert annotations["language"]["task"] == ["turn_on_led", "open_drawer", "open_drawer"]
    assert annotations["language"]["emb"].shape == (3, 1, 384)
    assert json.loads((tmp_path / "data" / MARKER).read_text())["provenance"]["human"] is False


def test_a_kill_before_the_end_loses_nothing(tmp_path, caplog):
    straight = CalvinNpz().build(collect(tmp_path / "straight")).fingerprint()
    writer = CalvinWriter(tmp_path / "killed", SPACES)
    for one in EPISODES:
        writer.add(one)
    (tmp_path / "killed" / "training").mkdir()  # finished, and then killed before that was recorded
    (tmp_path / "killed" / ".training.part").mkdir()
    damaged = writer.parts / "open_drawer" / "000002.npz"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    again = CalvinWriter(tmp_path / "killed", SPACES)
    assert again.present() == {"open_drawer": {0: True, 1: False}, "turn_on_led": {0: True}}
    assert f"{damaged} is damaged" in caplog.text and "The attempt is made again." in caplog.text
    again.add(EPISODES[2])
    again.finish(CHOSEN)
    assert CalvinNpz().build(tmp_path / "killed").fingerprint() == straight
    assert again.present()["open_drawer"] == {0: True, 1: False, 2: True}
    assert again.finish(CHOSEN) == tmp_path / "killed"
    with pytest.raises(DataError, match="finished with other episodes"):
        again.finish({"open_drawer": [0]})
    with pytest.raises(DataError, match="is finished"):
        again.add(EPISODES[0])


def _collect_slowly(folder: Path) -> None:
    writer = CalvinWriter(folder, SPACES)
    for one in EPISODES:
        writer.add(one)
        time.sleep(0.1)
    time.sleep(60)


def test_a_killed_collection_resumes_with_equal_content(tmp_path):
    straight = CalvinNpz().build(collect(tmp_path / "straight")).fingerprint()
    folder = tmp_path / "killed"
    child = multiprocessing.get_context("fork").Process(target=_collect_slowly, args=(folder,))
    child.start()
    deadline = time.monotonic() + 60
    while len(list(folder.glob("parts/*/0*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    again = CalvinWriter(folder, SPACES)
    present = again.present()
    assert 2 <= sum(map(len, present.values())) < len(EPISODES)
    for one in EPISODES:
        if one.attempt not in present.get(one.task, {}):
            again.add(one)
    again.finish(CHOSEN)
    assert CalvinNpz().build(folder).fingerprint() == straight


def test_a_damaged_list_is_made_again_or_named(tmp_path, monkeypatch, caplog):
    straight = CalvinNpz().build(collect(tmp_path / "straight")).fingerprint()
    with monkeypatch.context() as patched:
        patched.setattr("videopolicy.parts.collecting.shutil.rmtree", Mock())  # killed in between
        folder = collect(tmp_path / "killed")
    for text in ("[", '{"chosen": {}, "attempts": {}}'):
        (folder / MARKER).write_text(text)
        with pytest.raises(DataError, match="is damaged"):
            CalvinNpz().build(folder)
        assert CalvinWriter(folder, SPACES).present()["open_drawer"] == {0: True, 1: False, 2: True}
        assert f"{MARKER} is damaged" in caplog.text
        caplog.clear()
        (folder / MARKER).write_text(text)
    CalvinWriter(folder, SPACES).finish(CHOSEN)
    assert CalvinNpz().build(folder).fingerprint() == straight
    assert sorted(path.name for path in folder.iterdir()) == [MARKER, "training"]
    (folder / MARKER).write_text("[")
    with pytest.raises(DataError, match="is damaged") as caught:
        CalvinWriter(folder, SPACES).present()
    assert caught.value.hint.startswith(f"Remove {folder}")


def test_what_does_not_fit_is_said(tmp_path):
    writer = CalvinWriter(tmp_path, SPACES)
    other = episode("open_drawer", 0)
    other.arrays = {}
    with pytest.raises(DataError, match=r"has actions of shape None, not \(6, 7\)") as caught:
        writer.add(other)
    assert "Only benchmark 'calvin'" in caught.value.hint
    broken = episode("open_drawer", 0)
    broken.actions[2, 3] = np.nan
    with pytest.raises(DataError, match="rel_actions that are not finite"):
        writer.add(broken)
    with pytest.raises(DataError, match="no path and nothing has been collected"):
        CalvinNpz().build(None)
    (tmp_path / MARKER).write_text("{}")
    with pytest.raises(DataError, match="is damaged"):
        writer.present()
