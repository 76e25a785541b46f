"""Small LeRobot datasets of both layouts, whose pictures carry the number of their step."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from videopolicy import ActionSpace

FPS = 10
LENGTHS = (7, 12, 5, 9)
TASKS = ("pick the cup", "open the drawer")
TASK_OF = (0, 1, 1, 0)
SIZE = (32, 48)
CAMERA = "observation.images.front"
ACTIONS = ActionSpace(
    names=("x", "y", "z"), low=(-1.0,) * 3, high=(1.0,) * 3, control="delta_position", gripper="none", rate=float(FPS)
)


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture ``(height, width, 3)`` that says its number, from 0 to 255, as eight black or white fields."""
    height, width = size
    bits = np.array([number >> bit & 1 for bit in range(8)]).reshape(2, 4)
    fields = np.kron(bits, np.ones((height // 2, width // 4)))
    return np.repeat((fields[..., None] * 255).astype(np.uint8), 3, axis=2)


def number_of(image: np.ndarray) -> int:
    """What a picture ``(3, height, width)`` says."""
    height, width = image.shape[1:]
    fields = image.mean(0).reshape(2, height // 2, 4, width // 4).mean((1, 3)).reshape(-1) > 127
    return int(sum(1 << bit for bit in range(8) if fields[bit]))


def film(numbers: range | list[int], rate: int = FPS, **options: str) -> bytes:
    """A video of pictures; by default with a keyframe every five, and frames that are stored in another order."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        chosen = {"g": "5", "bf": "2", "crf": "10", **options}
        stream = container.add_stream("libx264", rate=Fraction(rate), options=chosen)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for number in numbers:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def values(first: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Actions ``(n, 3)`` and states ``(n, 2)`` of the steps from the first of an episode."""
    steps = np.arange(first, first + length, dtype=np.float32)
    return np.stack([steps, -steps, steps / 2], axis=1) / 100, np.stack([steps, steps + 1000], axis=1)


def write(
    root: Path, version: str = "v3.0", kind: str = "video", shift: float = 0.0, film_rate: int = FPS, **options: str
) -> Path:
    """A dataset of four episodes.

    Args:
        root: Its folder.
        version: ``v3.0``, with all episodes in one file, or ``v2.1``.
        kind: ``video``, or ``image`` for pictures in the parquet files.
        shift: Seconds that are added to the timestamps of every second step of the second episode.
        film_rate: Of the videos.
        options: Of the encoder.
    """
    ends = np.cumsum(LENGTHS)
    tables, rows = [], []
    for number, (length, end) in enumerate(zip(LENGTHS, ends, strict=True)):
        first = int(end) - length
        actions, state = values(first, length)
        seconds = np.arange(length) / FPS
        if number == 1:
            seconds[1::2] += shift
        columns = {
            "observation.state": pa.array(state.tolist(), pa.list_(pa.float32())),
            "action": pa.FixedSizeListArray.from_arrays(pa.array(actions.reshape(-1)), 3),
            "timestamp": pa.array(seconds.astype(np.float32)),
            "frame_index": pa.array(np.arange(length)),
            "episode_index": pa.array(np.full(length, number)),
            "index": pa.array(np.arange(first, end)),
            "task_index": pa.array(np.full(length, TASK_OF[number])),
        }
        if kind == "image":
            columns[CAMERA] = pa.array([{"bytes": png(step), "path": None} for step in range(first, end)])
        tables.append(pa.table(columns))
        rows.append(
            {
                "episode_index": number,
                "tasks": [TASKS[TASK_OF[number]]],
                "length": length,
                **place(first / FPS, int(end) / FPS),
                "dataset_from_index": first,
                "dataset_to_index": int(end),
                "stats/action/min": [0.0],
            }
        )
    total = int(ends[-1])
    info = {
        "codebase_version": version,
        "fps": FPS,
        "total_episodes": len(LENGTHS),
        "total_frames": total,
        "total_tasks": 2,
        "chunks_size": 1000,
        "splits": {"train": "0:4"},
        "features": {
            CAMERA: {"dtype": kind, "shape": [*SIZE, 3], "names": ["height", "width", "channels"]},
            "observation.state": {"dtype": "float32", "shape": [2], "names": {"motors": ["step", "thousand"]}},
            "action": {"dtype": "float32", "shape": [3], "names": None},
        },
    }
    meta = root / "meta"
    meta.mkdir(parents=True)
    if version == "v3.0":
        put(root / "data/chunk-000/file-000.parquet", pa.concat_tables(tables))
        put(meta / "episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
        put(meta / "tasks.parquet", pa.table({"task_index": [0, 1], "__index_level_0__": list(TASKS)}))
        films = {f"videos/{CAMERA}/chunk-000/file-000.mp4": range(total)}
    else:
        for number, table in enumerate(tables):
            put(root / f"data/chunk-000/episode_{number:06d}.parquet", table)
        keys = ("episode_index", "tasks", "length")
        (meta / "episodes.jsonl").write_text("\n".join(json.dumps({key: row[key] for key in keys}) for row in rows))
        lines = [json.dumps({"task_index": number, "task": task}) for number, task in enumerate(TASKS)]
        (meta / "tasks.jsonl").write_text("\n".join(lines))
        name = f"videos/chunk-000/{CAMERA}/episode_{{:06d}}.mp4"
        spans = zip(ends - LENGTHS, ends, strict=True)
        films = {name.format(number): range(begin, end) for number, (begin, end) in enumerate(spans)}
    for path, numbers in films.items() if kind == "video" else ():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(film(numbers, film_rate, **options))
    (meta / "info.json").write_text(json.dumps(info))
    return root


def place(begin: float, end: float) -> dict[str, object]:
    """Where an episode lies in layout 3."""
    video = f"videos/{CAMERA}"
    return {
        "data/chunk_index": 0,
        "data/file_index": 0,
        f"{video}/chunk_index": 0,
        f"{video}/file_index": 0,
        f"{video}/from_timestamp": begin,
        f"{video}/to_timestamp": end,
    }


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(number)).save(buffer, "PNG")
    return buffer.getvalue()


def put(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=10)


def rewritten(root: Path, **changes: object) -> None:
    """Change ``meta/info.json``."""
    path = root / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
