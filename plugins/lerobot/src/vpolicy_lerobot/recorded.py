"""The numbers of all episodes, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videopolicy import DataError
from vpolicy_lerobot.described import AGAIN, Info, vector
from vpolicy_lerobot.episodes import Entry
from vpolicy_lerobot.tables import numbers, read_table, whole_numbers

_SINGLE = 1.2e-7
"""Timestamps are in single precision: relative to them they are off by no more than this."""


@dataclass(frozen=True)
class Recorded:
    """One episode of n steps.

    Args:
        actions: ``(n, A)`` float32, all columns.
        state: ``(n, S)`` float32, the chosen columns; S is 0 where there are none.
        task: Number of its task, at its first step.
        tasks: How many tasks its steps are of.
        row: At which row of its file it begins.
    """

    actions: np.ndarray
    state: np.ndarray
    task: int
    tasks: int
    row: int


def read_numbers(
    info: Info, entries: Sequence[Entry], action: str, state: Mapping[str, tuple[str, int]], tolerance: float
) -> list[Recorded]:
    """The numbers of episodes, in their order.

    Args:
        info: Of the dataset.
        entries: Where they lie.
        action: Feature of the actions.
        state: Name of every dimension to feature and column.
        tolerance: Seconds by which timestamps may differ from the frame rate.

    Raises:
        DataError: A file is missing or damaged, an episode is not whole, or its timestamps are not those of the frame
            rate.
    """
    widths = {key: vector(info, key, "state") for key, _ in state.values()}
    widths[action] = vector(info, action, "action")
    columns = list(dict.fromkeys(["episode_index", "frame_index", "timestamp", "task_index", *widths]))
    by_file: dict[Path, list[Entry]] = {}
    for entry in entries:
        by_file.setdefault(entry.data, []).append(entry)
    found: dict[int, Recorded] = {}
    for path, inside in by_file.items():
        table = read_table(path, columns)
        owner = whole_numbers(table, "episode_index", path)
        frames, tasks = whole_numbers(table, "frame_index", path), whole_numbers(table, "task_index", path)
        seconds = numbers(table, "timestamp", 1, path)[:, 0]
        read = {key: numbers(table, key, width, path).astype(np.float32) for key, width in widths.items()}
        chosen = [read[key][:, column] for key, column in state.values()]
        states = np.stack(chosen, axis=1) if chosen else np.zeros((len(owner), 0), np.float32)
        for entry in inside:
            rows = np.flatnonzero(owner == entry.number)
            first = int(rows[0]) if len(rows) else 0
            span = slice(first, first + entry.length)
            whole = len(rows) == entry.length > 0 and np.array_equal(rows, np.arange(span.start, span.stop))
            if not whole or not np.array_equal(frames[span], np.arange(entry.length)):
                raise DataError(
                    f"{path}: episode {entry.number} has {len(rows)} steps where its metadata say {entry.length}, or "
                    "its steps are not numbered from 0 in a row.",
                    AGAIN,
                )
            _ensure_regular(seconds[span], info.fps, tolerance, f"{path}: episode {entry.number}")
            found[entry.number] = Recorded(
                read[action][span], states[span], int(tasks[first]), len(set(tasks[span].tolist())), first
            )
    return [found[entry.number] for entry in entries]


def _ensure_regular(seconds: np.ndarray, fps: float, tolerance: float, where: str) -> None:
    """Check that timestamps ``(n,)`` are those of the frame rate.

    Raises:
        DataError: One is not.
    """
    due = np.arange(len(seconds)) / fps
    wrong = np.flatnonzero(np.abs(seconds - due) > tolerance + _SINGLE * due)
    if len(wrong):
        step = int(wrong[0])
        raise DataError(
            f"{where}: the timestamp of its step {step} is {seconds[step]:.6g} s, where {fps:g} frames a second make "
            f"it {due[step]:.6g} s; {len(wrong)} of {len(seconds)} are off by more than {tolerance:g} s.",
            "Correct the timestamps, or `fps` in meta/info.json; where the recording really was that irregular and its "
            "videos are not, raise `tolerance`.",
        )
