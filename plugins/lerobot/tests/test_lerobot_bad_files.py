"""Damaged, incomplete and foreign datasets: one message that names the file, and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_samples import ACTIONS, CAMERA, film, rewritten, write
from vpolicy_lerobot.components import LeRobotV3

from videopolicy import DataError, Window

DATA = "data/chunk-000/file-000.parquet"
FILM = f"videos/{CAMERA}/chunk-000/file-000.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


def read_all(root: Path, **options: object) -> None:
    dataset = LeRobotV3(path=root, actions=ACTIONS, memory_limit=0, **options).build(None)
    windows = dataset.windows(Window())
    windows.batch(range(len(windows)))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def column(root: Path, name: str, change: Callable[[list], list]) -> None:
    table = pq.read_table(root / DATA)
    values = pa.array(change(table.column(name).to_pylist()), table.schema.field(name).type)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), root / DATA)


def episodes(root: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    pq.write_table(pa.Table.from_pylist(change(pq.read_table(root / EPISODES).to_pylist())), root / EPISODES)


def moved(row: dict, seconds: float) -> dict:
    """An episode whose video begins later."""
    key = f"videos/{CAMERA}/from_timestamp"
    return {**row, key: row[key] + seconds}


def without(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "another version": (lambda root: rewritten(root, codebase_version="v4.0"), r"version 'v4.0'.*v2.0, v2.1, v3.0"),
    "no version": (lambda root: rewritten(root, codebase_version=None), "version None"),
    "no info": (without("meta/info.json"), "is no LeRobot dataset: it has no meta/info.json"),
    "info of nothing": (lambda root: (root / "meta/info.json").write_text("[]"), "version None"),
    "info cut short": (lambda root: halve(root / "meta/info.json"), "info.json is damaged or no JSON"),
    "info without features": (lambda root: rewritten(root, features=None), "info.json is damaged or incomplete"),
    "paths that lead out": (lambda root: rewritten(root, data_path="../x.parquet"), "leads out of the dataset"),
    "paths of nothing": (lambda root: rewritten(root, data_path="{nothing}.parquet"), "is no name of files"),
    "no video": (without(FILM), r"file-000.mp4 is missing, which the dataset's metadata name"),
    "video cut short": (lambda root: halve(root / FILM), "file-000.mp4 is cut short"),
    "video of nothing": (lambda root: (root / FILM).write_bytes(b"no video" * 100), "file-000.mp4 is cut short or dam"),
    "video too short": (lambda root: (root / FILM).write_bytes(film(range(20))), "has 20 frames, and the .* have 33"),
    "video at another rate": (
        lambda root: (root / FILM).write_bytes(film(range(33), 15)),
        "has 15 frames a second, where meta/info.json says 10",
    ),
    "video of another size": (
        lambda root: rewritten(
            root,
            features={
                **json.loads((root / "meta/info.json").read_text())["features"],
                CAMERA: {"dtype": "video", "shape": [64, 64, 3], "names": ["height", "width", "channels"]},
            },
        ),
        "is 32x48, where meta/info.json says 64x64",
    ),
    "frames between frames": (
        lambda root: episodes(root, lambda rows: [moved(row, 0.03) for row in rows]),
        "has no frame at 0.03 s; the next one is at 0.1 s",
    ),
    "episodes that share frames": (
        lambda root: episodes(root, lambda rows: [moved(row, -0.1 * (n == 2)) for n, row in enumerate(rows)]),
        "episode 2 begins at its frame 18, and episode 1 goes on to 18",
    ),
    "episodes behind the end": (
        lambda root: episodes(root, lambda rows: [moved(row, 0.1) for row in rows]),
        "has 33 frames, and the episodes in it have 34",
    ),
    "no data": (without(DATA), "file-000.parquet is missing"),
    "data cut short": (lambda root: halve(root / DATA), "file-000.parquet is cut short or damaged, or no parquet"),
    "data of nothing": (lambda root: (root / DATA).write_bytes(b""), "file-000.parquet is cut short or damaged"),
    "no episodes": (lambda root: shutil.rmtree(root / "meta/episodes"), "no parquet file that names the episodes"),
    "episodes cut short": (lambda root: halve(root / EPISODES), "meta/episodes/.* is cut short or damaged"),
    "an episode too few": (lambda root: episodes(root, lambda rows: rows[1:]), "counts 4 episodes, and .* names 3"),
    "an episode without its video": (
        lambda root: episodes(root, lambda rows: [{k: v for k, v in row.items() if "chunk" not in k} for row in rows]),
        "damaged or incomplete: KeyError",
    ),
    "steps that are missing": (
        lambda root: pq.write_table(pq.read_table(root / DATA).slice(0, 30), root / DATA),
        "episode 3 has 6 steps where its metadata say 9",
    ),
    "steps in disorder": (
        lambda root: column(root, "frame_index", lambda ones: [0, 2, 1, *ones[3:]]),
        "episode 0 has 7 steps where its metadata say 7, or its steps are not numbered",
    ),
    "no tasks": (without("meta/tasks.parquet"), "tasks.parquet is missing"),
    "a task that is not there": (
        lambda root: column(root, "task_index", lambda ones: [5] * len(ones)),
        "a step is of task 5, which is not among meta/tasks",
    ),
    "actions that are not finite": (
        lambda root: column(root, "action", lambda ones: [[float("nan")] * 3, *ones[1:]]),
        "'action' is not finite in row 0",
    ),
    "actions of another length": (
        lambda root: rewritten(
            root,
            features={
                **json.loads((root / "meta/info.json").read_text())["features"],
                "action": {"dtype": "float32", "shape": [4], "names": None},
            },
        ),
        "'action' is fixed_size_list.*, not 4 numbers a step",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_wrong_is_said_once_with_the_file(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    root = write(tmp_path / "data")
    read_all(root)
    damage(root)
    with pytest.raises(DataError, match=message) as caught:
        read_all(root)
    assert caught.value.hint


def test_shifted_timestamps_are_compared_with_the_frame_rate(tmp_path: Path) -> None:
    root = write(tmp_path / "data", shift=0.02)
    with pytest.raises(DataError, match=r"episode 1: the timestamp of its step 1 is 0.12 s.*make it 0.1 s; 6 of 12"):
        read_all(root)
    read_all(root, tolerance=0.03)


def test_a_picture_that_is_damaged_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "data", kind="image")
    column(root, CAMERA, lambda ones: [*ones[:4], {"bytes": b"\x89PNG and so on", "path": None}, *ones[5:]])
    with pytest.raises(DataError, match=f"'{CAMERA}' in row 4 is damaged"):
        read_all(root)


def test_a_path_that_is_none_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_all(tmp_path / "nothing")
    with pytest.raises(DataError, match="is no LeRobot dataset"):
        read_all(tmp_path)
