"""What was made for a report and is damaged is named, and made again."""

from __future__ import annotations

import numpy as np
import pytest

from videopolicy.outcomes.records import EpisodeRecord
from videopolicy.report.contents import read_run
from videopolicy.report.made import keep_current, read_index
from videopolicy.report.replay import load_trajectory
from videopolicy.storage.files import write_json
from videopolicy.storage.run_folder import RunFolder


@pytest.mark.parametrize("content", [b"", b"\0" * 30, b"[]", b"3", b'{"a.mp4": 3}', b"\xff\xfe"])
def test_a_damaged_index_is_named_and_begun_anew(tmp_path, content):
    said: list[str] = []
    index = tmp_path / "videos.json"
    assert keep_current(index, {"a.mp4": "key"}, lambda name: [name], said.append) == {} and said == []
    (tmp_path / "a.mp4").touch()
    write_json(index, {"a.mp4": {"key": "key"}})
    assert list(keep_current(index, {"a.mp4": "key"}, lambda name: [name], said.append)) == ["a.mp4"] and said == []
    index.write_bytes(content)
    assert read_index(index) == {}
    assert keep_current(index, {"a.mp4": "key"}, lambda name: [name], said.append) == {}
    assert len(said) == 1 and f"{index} is damaged" in said[0] and "made again" in said[0]


def test_a_report_names_what_is_damaged(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: a\n")
    (tmp_path / "videos").mkdir()
    names = ("quality.json", "videos.json", "predictions.json")
    assert not any(name in problem for problem in read_run(tmp_path).problems for name in names)
    for name in names:
        (tmp_path / "videos" / name).write_text("[")
    problems = read_run(tmp_path).problems
    assert all(sum(f"videos/{name} is damaged" in problem for problem in problems) == 1 for name in names)


def test_a_damaged_trajectory_is_named(tmp_path):
    said: list[str] = []
    facts = {"success": True, "score": 1.0, "steps": 4, "seconds": 0.0, "initial_state": "", "protocol": ""}
    record = EpisodeRecord(policy="trained", task="red", episode=0, **facts)
    path = RunFolder(tmp_path).trajectory("trained", "red", 0)
    assert load_trajectory(RunFolder(tmp_path), record, said.append) is None and said == []
    path.parent.mkdir(parents=True)
    np.save(path, np.zeros((4, 2), np.float32))
    assert load_trajectory(RunFolder(tmp_path), record, said.append).shape == (4, 2) and said == []
    whole = path.read_bytes()
    for content in (whole[:-3], b"", bytes(len(whole))):
        path.write_bytes(content)
        assert load_trajectory(RunFolder(tmp_path), record, said.append) is None
    assert len(said) == 3 and all(str(path) in text for text in said)
