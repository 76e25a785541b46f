"""The life of a collection in a layout of a few lines: what a kill leaves, what is named, what is made again."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from videopolicy import ActionSpace, DataError, Episode, Spaces, StorageError
from videopolicy.parts import collecting
from videopolicy.parts.collecting import CollectionWriter, ensure_arrays

SPACES = Spaces(
    cameras=(),
    actions=ActionSpace(
        names=("x", "y"), low=(-1, -1), high=(1, 1), control="delta_position", gripper="none", rate=10.0
    ),
)
CHOSEN = {"go a/b": [0, 2], "stop": [1]}


class TextWriter(CollectionWriter):
    """Numbers as text; a line that ends well says that a part is whole."""

    marker = "list.json"
    suffix = ".txt"

    def _check(self, episode: Episode) -> None:
        ensure_arrays(episode, {"actions": (episode.actions, (len(episode.actions), 2))}, "Correct it.")

    def _write(self, episode: Episode, path: Path) -> None:
        path.write_text(f"{episode.actions.tolist()}\nend")

    def _verify(self, path: Path) -> None:
        if not path.read_text().endswith("\nend"):
            raise DataError(f"{path} is cut short.")

    def _assemble(self, chosen: Mapping[str, list[int]]) -> dict[str, Any]:
        parts = [part for found in self._successes(chosen).values() for part in found]
        (self.folder / "all.txt").write_text("\n".join(part.read_text() for part in parts))
        return {"count": len(parts)}


def episode(task: str, attempt: int, success: bool = True) -> Episode:
    actions = np.random.default_rng([len(task), attempt]).uniform(-1, 1, (3, 2))
    return Episode(task, f"please {task}", {}, actions, None, f"{task}-{attempt}", success, attempt)


def fill(writer: TextWriter) -> None:
    present = writer.present()
    for task in CHOSEN:
        for attempt in range(3):
            if attempt not in present.get(task, {}):
                writer.add(episode(task, attempt, success=attempt in CHOSEN[task]))


@pytest.fixture
def straight(tmp_path: Path) -> str:
    writer = TextWriter(tmp_path / "straight", SPACES)
    fill(writer)
    return (writer.finish(CHOSEN) / "all.txt").read_text()


def test_attempts_are_parts_and_then_a_list(tmp_path, straight):
    writer = TextWriter(tmp_path / "data", SPACES)
    fill(writer)
    parts = sorted(str(path.relative_to(writer.parts)) for path in writer.parts.rglob("*") if path.is_file())
    assert parts[:3] == ["go a%2Fb/000000.txt", "go a%2Fb/000001.failed", "go a%2Fb/000002.txt"]
    tried = {"go a/b": {0: True, 1: False, 2: True}, "stop": {0: False, 1: True, 2: False}}
    assert writer.present() == TextWriter(tmp_path / "data", SPACES).present() == tried
    assert writer.finish(CHOSEN) == writer.finish(CHOSEN) == tmp_path / "data"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["all.txt", "list.json"]
    assert json.loads((tmp_path / "data" / "list.json").read_text())["count"] == 3
    assert (tmp_path / "data" / "all.txt").read_text() == straight
    assert writer.present() == tried
    with pytest.raises(DataError, match="finished with other episodes"):
        writer.finish({"stop": [1]})
    with pytest.raises(DataError, match="is finished"):
        writer.add(episode("stop", 4))


def _fill_slowly(folder: Path) -> None:
    writer = TextWriter(folder, SPACES)
    add = writer.add

    def slowly(one: Episode) -> None:
        add(one)
        time.sleep(0.05)

    writer.add = slowly  # type: ignore[method-assign]
    fill(writer)
    time.sleep(60)


def test_a_killed_collection_resumes_with_equal_content(tmp_path, straight):
    folder = tmp_path / "data"
    child = multiprocessing.get_context("fork").Process(target=_fill_slowly, args=(folder,))
    child.start()
    deadline = time.monotonic() + 60
    while len(list(folder.glob("parts/*/0*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    again = TextWriter(folder, SPACES)
    assert 2 <= sum(map(len, again.present().values())) < 6
    fill(again)
    assert (again.finish(CHOSEN) / "all.txt").read_text() == straight


def test_a_damaged_part_is_named_and_made_again(tmp_path, straight, caplog):
    writer = TextWriter(tmp_path / "data", SPACES)
    fill(writer)
    part = writer.parts / "stop" / "000001.txt"
    part.write_text("[[0.")
    assert writer.present()["stop"] == {0: False, 1: True, 2: False}  # what it has written itself it believes
    again = TextWriter(tmp_path / "data", SPACES)
    assert again.present()["stop"] == {0: False, 2: False}
    assert f"{part} is cut short. The attempt is made again." in caplog.text
    fill(again)
    assert (again.finish(CHOSEN) / "all.txt").read_text() == straight


@pytest.mark.parametrize("text", ["", "[]", '{"chosen": {}}', '{"chosen": {}, "attempts": {"stop": 3}}'])
def test_a_damaged_list_is_made_again_while_the_parts_are_there_and_named_otherwise(
    tmp_path, monkeypatch, straight, caplog, text
):
    writer = TextWriter(tmp_path / "data", SPACES)
    fill(writer)
    with monkeypatch.context() as patched:
        patched.setattr(collecting.shutil, "rmtree", Mock())  # killed in between
        writer.finish(CHOSEN)
    marker = tmp_path / "data" / "list.json"
    marker.write_text(text)
    again = TextWriter(tmp_path / "data", SPACES)
    assert again.present()["stop"] == {0: False, 1: True, 2: False}
    assert f"{marker} is damaged" in caplog.text and "The folder is finished again." in caplog.text
    assert (again.finish(CHOSEN) / "all.txt").read_text() == straight
    assert not again.parts.exists()
    marker.write_text(text)
    for call in (again.present, lambda: again.finish(CHOSEN), lambda: again.add(episode("stop", 1))):
        with pytest.raises(DataError, match=r"list\.json is damaged") as caught:
            call()
        assert caught.value.hint == f"Remove {tmp_path / 'data'} and run the same command again."


def test_parts_that_a_kill_left_beside_a_finished_folder_go(tmp_path, monkeypatch):
    writer = TextWriter(tmp_path / "data", SPACES)
    fill(writer)
    with monkeypatch.context() as patched:
        patched.setattr(collecting.shutil, "rmtree", Mock())
        writer.finish(CHOSEN)
    assert writer.parts.exists()
    TextWriter(tmp_path / "data", SPACES).finish(CHOSEN)
    assert not writer.parts.exists()


def test_what_an_expert_or_a_disk_gets_wrong_is_said(tmp_path, monkeypatch):
    writer = TextWriter(tmp_path / "data", SPACES)
    for actions, says in (
        (np.zeros((3, 1)), r"actions of shape \(3, 1\), not \(3, 2\)"),
        (np.zeros((0, 2)), r"actions of shape \(0, 2\)"),
        (np.full((3, 2), np.inf), "actions that are not finite"),
    ):
        wrong = episode("stop", 1)
        wrong.actions = actions
        with pytest.raises(DataError, match=f"Attempt 1 of task 'stop' has {says}"):
            writer.add(wrong)
    with pytest.raises(DataError, match="no episode of task 'stop'"):
        writer.finish({"stop": []})
    with pytest.raises(DataError, match=r"Attempt 1 of task 'stop' was not recorded"):
        writer.finish({"stop": [1]})
    monkeypatch.setattr(TextWriter, "_write", Mock(side_effect=OSError("No space left on device")))
    with pytest.raises(StorageError, match="the disk is full"):
        writer.add(episode("stop", 1))
    assert writer.present() == {}
