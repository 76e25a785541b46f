"""Puts recorded episodes together into files of the sizes that LeRobot's own writer keeps to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from videopolicy import Spaces
from vpolicy_lerobot.card import card
from vpolicy_lerobot.described import IMAGES, INFO, STATE
from vpolicy_lerobot.films import Film, pixel_format
from vpolicy_lerobot.measures import of_numbers, of_pixels

VERSION = "v3.0"
FILES_A_CHUNK = 1000
DATA_MEGABYTES, VIDEO_MEGABYTES = 100, 200
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
_COUNTERS = ("frame_index", "episode_index", "index", "task_index")


class _Place:
    """The file that is written to: the next one where this one would become too large.

    Args:
        megabytes: Of one file.
    """

    def __init__(self, megabytes: int) -> None:
        self._limit = megabytes * 2**20
        self._file, self._bytes = 0, 0

    def for_more(self, size: int) -> tuple[int, int, bool]:
        """Chunk and file for so many bytes, and whether this file is a new one."""
        new = not self._bytes or self._bytes + size > self._limit
        if self._bytes and new:
            self._file, self._bytes = self._file + 1, 0
        self._bytes += size
        return self._file // FILES_A_CHUNK, self._file % FILES_A_CHUNK, new


class Assembly:
    """A dataset that grows by episodes.

    Args:
        folder: Of the dataset.
        spaces: Cameras, state and actions.
        rate: Steps a second.
    """

    def __init__(self, folder: Path, spaces: Spaces, rate: int) -> None:
        self._folder, self._spaces, self._rate = folder, spaces, rate
        self._tasks: dict[str, int] = {}
        self._splits: dict[str, list[int]] = {}
        self._rows: list[dict[str, Any]] = []
        self._steps = 0
        self._data, self._table = _Place(DATA_MEGABYTES), _Table()
        cameras = [f"{IMAGES}{camera.name}" for camera in spaces.cameras]
        self._places = {key: _Place(VIDEO_MEGABYTES) for key in cameras}
        self._films: dict[str, Film] = {}
        self._pixels = {key: np.zeros((3, 256), np.int64) for key in cameras}
        self._numbers: dict[str, list[np.ndarray]] = {}

    def add(self, columns: Mapping[str, np.ndarray], instruction: str, split: str) -> None:
        """Append an episode; those of one split have to come one after the other.

        Args:
            columns: ``action``, ``observation.state``, and of every camera ``video/`` and ``pixels/``.
            instruction: The sentence of its task.
            split: Its split.
        """
        number, steps = len(self._rows), len(columns["action"])
        span = self._splits.setdefault(split, [number, number])
        span[1] = number + 1
        frames = np.arange(steps)
        task = self._tasks.setdefault(instruction, len(self._tasks))
        values: dict[str, np.ndarray] = {
            **{key: columns[key] for key in (STATE, "action") if key in columns},
            "timestamp": (frames / self._rate).astype(np.float32)[:, None],
            "frame_index": frames[:, None],
            "episode_index": np.full((steps, 1), number),
            "index": self._steps + frames[:, None],
            "task_index": np.full((steps, 1), task),
        }
        chunk, file, new = self._data.for_more(sum(one.nbytes for one in values.values()))
        if new:
            place = _FILE.format(chunk_index=chunk, file_index=file)
            self._table.begin(self._folder / "data" / f"{place}.parquet")
        self._table.add(values)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [instruction],
            "length": steps,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self._steps,
            "dataset_to_index": self._steps + steps,
        }
        measured = {key: of_numbers(one) for key, one in values.items()}
        for key in self._places:
            row.update(self._filmed(key, columns[f"video/{key}"].tobytes(), steps))
            self._pixels[key] += columns[f"pixels/{key}"]
            measured[key] = of_pixels(columns[f"pixels/{key}"], steps)
        row.update({"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        row.update({f"stats/{key}/{name}": one for key, found in measured.items() for name, one in found.items()})
        self._rows.append(row)
        for key, one in values.items():
            self._numbers.setdefault(key, []).append(one)
        self._steps += steps

    def _filmed(self, key: str, video: bytes, steps: int) -> dict[str, Any]:
        """Append an episode's video of a camera; returns where it lies."""
        chunk, file, new = self._places[key].for_more(len(video))
        if new:
            if key in self._films:
                self._films[key].close()
            place = _FILE.format(chunk_index=chunk, file_index=file)
            self._films[key] = Film(self._folder / "videos" / key / f"{place}.mp4", self._rate)
        begin = self._films[key].add(video, steps)
        return {
            f"videos/{key}/chunk_index": chunk,
            f"videos/{key}/file_index": file,
            f"videos/{key}/from_timestamp": begin,
            f"videos/{key}/to_timestamp": begin + steps / self._rate,
        }

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Close all files, and write what is said of them.

        Args:
            provenance: Where the data come from, for people.
        """
        self._table.close()
        for film in self._films.values():
            film.close()
        meta = self._folder / "meta"
        episodes = meta / "episodes" / f"{_FILE.format(chunk_index=0, file_index=0)}.parquet"
        episodes.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(self._rows), episodes)
        pq.write_table(_tasks(self._tasks), meta / "tasks.parquet")
        stats = {key: of_numbers(np.concatenate(ones)) for key, ones in self._numbers.items()}
        stats.update({key: of_pixels(counts, self._steps) for key, counts in self._pixels.items()})
        (meta / "stats.json").write_text(json.dumps(stats, indent=1), encoding="utf-8")
        info = {
            "codebase_version": VERSION,
            "robot_type": None,
            "total_episodes": len(self._rows),
            "total_frames": self._steps,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_A_CHUNK,
            "data_files_size_in_mb": DATA_MEGABYTES,
            "video_files_size_in_mb": VIDEO_MEGABYTES,
            "fps": self._rate,
            "splits": {split: f"{begin}:{end}" for split, (begin, end) in self._splits.items()},
            "data_path": f"data/{_FILE}.parquet",
            "video_path": f"videos/{{video_key}}/{_FILE}.mp4",
            "features": self._features(),
        }
        (self._folder / "README.md").write_text(card(info, provenance), encoding="utf-8")
        (self._folder / INFO).write_text(json.dumps(info, indent=4), encoding="utf-8")

    def _features(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for camera in self._spaces.cameras:
            about = {
                "video.height": camera.height,
                "video.width": camera.width,
                "video.codec": "h264",
                "video.pix_fmt": pixel_format(camera.height, camera.width),
                "video.is_depth_map": False,
                "video.fps": self._rate,
                "video.channels": 3,
                "has_audio": False,
            }
            found[f"{IMAGES}{camera.name}"] = {
                "dtype": "video",
                "shape": [camera.height, camera.width, 3],
                "names": ["height", "width", "channels"],
                "info": about,
            }
        vectors = {"action": self._spaces.actions.names}
        if self._spaces.state is not None:
            vectors = {STATE: self._spaces.state.names, **vectors}
        for key, names in vectors.items():
            found[key] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
        found["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
        return {**found, **{key: {"dtype": "int64", "shape": [1], "names": None} for key in _COUNTERS}}


class _Table:
    """The parquet file that is written; an episode is a group of rows, so that it can be read alone."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._writer: pq.ParquetWriter | None = None

    def begin(self, path: Path) -> None:
        self.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def add(self, values: Mapping[str, np.ndarray]) -> None:
        """Append columns ``(n, dimensions)``; those of one dimension are numbers, as LeRobot has them."""
        arrays = {
            key: pa.array(one[:, 0])
            if one.shape[1] == 1
            else pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(one).reshape(-1)), one.shape[1])
            for key, one in values.items()
        }
        table = pa.table(arrays)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _tasks(tasks: Mapping[str, int]) -> pa.Table:
    """Tasks and their numbers; pandas, with which LeRobot reads them, takes the tasks for the names of the rows."""
    table = pa.table({"task_index": pa.array(list(tasks.values()), pa.int64()), "task": list(tasks)})
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": stored, "metadata": None}
            for name, (kind, stored) in kinds.items()
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(described)})
