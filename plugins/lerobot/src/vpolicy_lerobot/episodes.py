"""Which episodes there are, in which files, and the sentences of their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from videopolicy import DataError
from vpolicy_lerobot.described import AGAIN, INFO, Info, read_lines
from vpolicy_lerobot.tables import ensure_there, readable

_TEXT = (pa.types.is_string, pa.types.is_large_string)


@dataclass(frozen=True)
class Entry:
    """Where one episode lies.

    Args:
        number: Its index.
        length: Steps.
        data: File of its numbers.
        videos: By feature, the file of its pictures and the second at which it begins there.
    """

    number: int
    length: int
    data: Path
    videos: dict[str, tuple[Path, float]]


@dataclass(frozen=True)
class Index:
    """All episodes of a dataset.

    Args:
        entries: In the order of their numbers.
        tasks: By number.
        files: Those that say so.
    """

    entries: tuple[Entry, ...]
    tasks: dict[int, str]
    files: tuple[Path, ...]


def read_index(info: Info, videos: Sequence[str]) -> Index:
    """Which episodes there are.

    Args:
        info: Of the dataset.
        videos: Features whose videos are read.

    Raises:
        DataError: Metadata are missing, damaged, or contradict each other.
    """
    tasks, source = _tasks(info)
    found, files = _old(info, videos) if info.layout == 2 else _new(info, videos)
    entries = tuple(sorted(found, key=lambda one: one.number))
    if [one.number for one in entries] != list(range(info.episodes)):
        raise DataError(
            f"{info.root / INFO} counts {info.episodes} episodes, and {files[0].parent} names {len(entries)} of them, "
            "or others.",
            AGAIN,
        )
    return Index(entries, tasks, (info.root / INFO, source, *files))


def _tasks(info: Info) -> tuple[dict[int, str], Path]:
    new, old = info.root / "meta/tasks.parquet", info.root / "meta/tasks.jsonl"
    if info.layout == 2 or (not new.exists() and old.exists()):
        rows = read_lines(old)
        with _sound(old):
            return {int(row["task_index"]): str(row["task"]) for row in rows}, old
    ensure_there(new)
    with readable(new), pq.ParquetFile(new) as file:
        table = file.read(use_threads=False)
    named = [name for name in table.column_names if any(is_text(table.schema.field(name).type) for is_text in _TEXT)]
    if "task_index" not in table.column_names or not named:
        raise DataError(f"{new} has columns {table.column_names}, not the tasks and their numbers.", AGAIN)
    numbers = table.column("task_index").to_pylist()
    return dict(zip(numbers, map(str, table.column(named[0]).to_pylist()), strict=True)), new


def _old(info: Info, videos: Sequence[str]) -> tuple[list[Entry], tuple[Path, ...]]:
    path = info.root / "meta/episodes.jsonl"
    rows = read_lines(path)
    with _sound(path):
        spans = [(int(row["episode_index"]), int(row["length"])) for row in rows]
    found = []
    for number, length in spans:
        place: dict[str, object] = {"episode_chunk": number // info.chunk, "episode_index": number}
        films = {key: (info.file(info.video_path, video_key=key, **place), 0.0) for key in videos}
        found.append(Entry(number, length, info.file(info.data_path, **place), films))
    return found, (path,)


def _new(info: Info, videos: Sequence[str]) -> tuple[list[Entry], tuple[Path, ...]]:
    folder = info.root / "meta/episodes"
    files = tuple(sorted(folder.glob("*/*.parquet")))
    if not files:
        raise DataError(f"{folder} has no parquet file that names the episodes.", AGAIN)
    found = []
    for path in files:
        with readable(path), pq.ParquetFile(path) as file:
            chosen = [name for name in file.schema_arrow.names if not name.startswith("stats/")]
            rows = file.read(columns=chosen, use_threads=False).to_pylist()
        with _sound(path):
            found += [_entry(info, videos, row) for row in rows]
    return found, files


def _entry(info: Info, videos: Iterable[str], row: Mapping[str, Any]) -> Entry:
    films = {}
    for key in videos:
        place = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
        begin = float(row[f"videos/{key}/from_timestamp"])
        films[key] = (info.file(info.video_path, video_key=key, **place), begin)
    data = info.file(info.data_path, chunk_index=int(row["data/chunk_index"]), file_index=int(row["data/file_index"]))
    return Entry(int(row["episode_index"]), int(row["length"]), data, films)


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Turn what Python says about metadata of another form into an error that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged or incomplete: {error!r}.", AGAIN) from error
