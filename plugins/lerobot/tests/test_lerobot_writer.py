"""What is written in LeRobot's format comes back, whatever is killed on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot_samples import ACTIONS, number_of, picture
from vpolicy_lerobot import assembling
from vpolicy_lerobot.components import LeRobotV3
from vpolicy_lerobot.films import encoded
from vpolicy_lerobot.measures import counted, of_numbers, of_pixels
from vpolicy_lerobot.writer import LeRobotWriter

from videopolicy import Camera, DataError, Episode, Spaces, StateSpace, Window

SIZES = {"front": (32, 48), "odd": (30, 36)}
SPACES = Spaces(
    cameras=tuple(Camera(name=name, height=h, width=w, orientation="mirrored") for name, (h, w) in SIZES.items()),
    actions=ACTIONS,
    state=StateSpace(names=("one", "two")),
)
LENGTHS = {"train": (5, 8, 6), "validation": (4,)}


def episode(split: str, attempt: int, first: int, length: int) -> Episode:
    steps = np.arange(first, first + length)
    return Episode(
        task=split,
        instruction=f"do it in {split}",
        images={name: np.stack([picture(step, size) for step in steps]) for name, size in SIZES.items()},
        actions=np.stack([steps, -steps, steps / 7], axis=1).astype(np.float32),
        state=np.stack([steps, steps + 0.5], axis=1).astype(np.float32),
        initial_state=f"{split} {attempt}",
        success=True,
        attempt=attempt,
        facts={"split": split, "expert": "scripted", "benchmark": "toy"},
    )


def episodes() -> list[Episode]:
    found, first = [], 0
    for split, lengths in LENGTHS.items():
        for attempt, length in enumerate(lengths):
            found.append(episode(split, attempt, first, length))
            first += length
    return found


CHOSEN = {split: list(range(len(lengths))) for split, lengths in LENGTHS.items()}


def written(folder: Path) -> Path:
    writer = LeRobotWriter(folder, SPACES)
    for one in reversed(episodes()):
        writer.add(one)
    return writer.finish(dict(reversed(CHOSEN.items())))


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    component = LeRobotV3(path=written(tmp_path / "data"), memory_limit=0)
    dataset = component.build(None)
    assert dataset.spaces == SPACES
    assert not dataset.spaces.misfits(component.declared(), "opened", "declared")
    assert dataset.splits == {"train": 3, "validation": 1}
    assert dataset.remarks == ("4 of 4 episodes are demonstrations of a scripted expert, not of a human",)
    assert dataset.initial_states() == {one.initial_state for one in episodes()}
    start = 0
    for split, lengths in LENGTHS.items():
        windows = dataset.windows(Window(future=(1,), horizon=1), split)
        batch = windows.batch(range(len(windows)))
        assert len(windows) == sum(lengths) and set(batch.observation.instructions) == {f"do it in {split}"}
        for name in SIZES:
            seen = [number_of(image.numpy()) for image in batch.observation.images[name][:, 0]]
            assert seen == list(range(start, start + sum(lengths)))
        steps = np.arange(start, start + sum(lengths), dtype=np.float32)
        assert np.array_equal(batch.actions[:, 0].numpy(), np.stack([steps, -steps, steps / 7], 1).astype(np.float32))
        assert np.array_equal(batch.observation.state[:, 0, 0].numpy(), steps)
        assert np.flatnonzero(~batch.future_mask[:, 0].numpy()).tolist() == (np.cumsum(lengths) - 1).tolist()
        start += sum(lengths)


def test_files_are_no_larger_than_they_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "VIDEO_MEGABYTES", 5000 / 2**20)
    monkeypatch.setattr(assembling, "DATA_MEGABYTES", 500 / 2**20)
    monkeypatch.setattr(assembling, "FILES_A_CHUNK", 2)
    root = written(tmp_path / "data")
    assert [path.parent.name for path in sorted(root.glob("data/*/*"))] == ["chunk-000"] * 2 + ["chunk-001"] * 2
    assert len(list(root.glob("videos/observation.images.front/*/*.mp4"))) > 1
    windows = LeRobotV3(path=root).build(None).windows(Window())
    seen = windows.batch(range(len(windows))).observation.images["odd"][:, 0]
    assert [number_of(image.numpy()) for image in seen] == list(range(len(windows)))


def test_metadata_are_what_lerobot_reads(tmp_path: Path) -> None:
    root = written(tmp_path / "data")
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == ("v3.0", 10, 4, 23)
    assert info["splits"] == {"train": "0:3", "validation": "3:4"}
    assert info["features"]["observation.images.odd"]["info"]["video.pix_fmt"] == "yuv420p"
    assert info["features"]["action"] == {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]}
    rows = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["dataset_from_index"] for row in rows] == [0, 5, 13, 19]
    assert rows[1]["videos/observation.images.front/from_timestamp"] == 0.5
    assert rows[3]["tasks"] == ["do it in validation"] and rows[3]["stats/observation.state/min"] == [19.0, 19.5]
    stats = json.loads((root / "meta/stats.json").read_text())
    assert stats["index"]["max"] == [22] and stats["observation.images.front"]["count"] == [23]
    mark = json.loads((root / "meta/videopolicy.json").read_text())
    assert mark["provenance"] == {"human": False, "benchmark": "toy", "expert": "scripted"}
    assert "scripted expert, not of a human" in (root / "README.md").read_text()
    assert not (root / "parts").exists()


def test_a_killed_writer_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = LeRobotWriter(folder, SPACES)
    for one in episodes()[:2]:
        first.add(one)
    damaged = folder / "parts/train/000001.npz"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    (folder / "meta").mkdir()  # a killed `finish`
    (folder / "meta/info.json").write_text("{}")
    assert LeRobotWriter(folder, SPACES).present() == {"train": {0: True}}
    written(folder)
    assert LeRobotV3(path=folder).build(None).fingerprint() == (
        LeRobotV3(path=written(tmp_path / "other")).build(None).fingerprint()
    )


def test_what_cannot_be_written_is_explained(tmp_path: Path) -> None:
    slow = SPACES.model_copy(update={"actions": ACTIONS.model_copy(update={"rate": 2.5})})
    with pytest.raises(DataError, match=r"whole numbers of steps a second, and these data have 2\.5"):
        LeRobotWriter(tmp_path / "data", slow)
    wrong = episode("train", 0, 0, 3)
    wrong.images["odd"] = wrong.images["odd"][:, :-2]
    with pytest.raises(DataError, match="camera 'odd' of shape"):
        LeRobotWriter(tmp_path / "data", SPACES).add(wrong)


def test_pictures_of_odd_sizes_are_written(tmp_path: Path) -> None:
    assert len(encoded(np.zeros((2, 33, 47, 3), np.uint8), 10)) > 100


def test_statistics_of_pixels_are_those_of_the_numbers() -> None:
    frames = np.random.default_rng(0).integers(3, 250, (20, 19, 17, 3), dtype=np.uint8)
    found, true = of_pixels(counted(frames), 20), of_numbers(frames.reshape(-1, 3) / 255)
    for name in ("min", "max", "mean", "std", "q10", "q50", "q99"):
        assert np.allclose(np.reshape(found[name], 3), true[name], atol=1 / 255), name
    assert found["count"] == [20] and np.shape(found["mean"]) == (3, 1, 1)
