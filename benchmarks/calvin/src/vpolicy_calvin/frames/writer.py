"""Writes collected episodes in CALVIN's own layout: one file for every frame, and an annotation for every episode."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from videopolicy import DataError, Episode, Spaces
from videopolicy.parts.files import storage_errors, written_whole
from vpolicy_calvin.frames.annotations import FILE
from vpolicy_calvin.frames.collected import MARKER, read_collection
from vpolicy_calvin.frames.files import frame_file

_PARTS, _FAILED = "parts", ".failed"
_STATES = 39
"""Numbers of ``robot_obs`` (15) and ``scene_obs`` (24), which are a state of the simulator."""
_ROBOT = 15
_EMBEDDING = (1, 384)
"""Shape of a sentence's embedding in CALVIN's annotations; nothing here reads or makes one, so they are zeros."""


class CalvinWriter:
    """Killed at any moment, it leaves whole attempts, or the finished folder, or both.

    Several processes may add episodes to one folder, each with a writer of its own.

    Args:
        folder: Where the dataset is to lie.
        spaces: Cameras, state and actions of the episodes.
    """

    def __init__(self, folder: Path, spaces: Spaces) -> None:
        self.folder = folder
        self.spaces = spaces
        self.parts = folder / _PARTS

    def present(self) -> dict[str, dict[int, bool]]:
        """Attempts whose file is damaged are dropped: they are made again."""
        if (finished := read_collection(self.folder)) is not None:
            return finished.attempts
        found: dict[str, dict[int, bool]] = {}
        for path in sorted(self.parts.glob("*/*")):
            if path.suffix in (".npz", _FAILED) and path.stem.isdigit() and _is_whole(path):
                found.setdefault(unquote(path.parent.name), {})[int(path.stem)] = path.suffix == ".npz"
        return found

    def add(self, episode: Episode) -> None:
        if read_collection(self.folder) is not None:
            raise DataError(f"The dataset in {self.folder} is finished.", "Collect into another folder.")
        arrays = self._arrays(episode) if episode.success else {}
        final = self._part(episode.task, episode.attempt, ".npz" if episode.success else _FAILED)
        with written_whole(final, shared=True) as file, file.open("wb") as handle:
            if episode.success:
                np.savez_compressed(handle, allow_pickle=False, **arrays)

    def finish(self, chosen: dict[str, list[int]]) -> Path:
        finished = read_collection(self.folder)
        if finished is not None:
            if finished.chosen != chosen:
                raise DataError(
                    f"The dataset in {self.folder} is finished with other episodes.", "Collect into another folder."
                )
            return self.folder
        with storage_errors(self.folder):
            facts = {"chosen": chosen, "attempts": self.present(), **self._assemble(chosen)}
            with written_whole(self.folder / MARKER) as file:
                file.write_text(json.dumps(facts, indent=1), encoding="utf-8")
            shutil.rmtree(self.parts, ignore_errors=True)
        return self.folder

    def _part(self, task: str, attempt: int, suffix: str) -> Path:
        return self.parts / quote(task, safe="") / f"{attempt:06d}{suffix}"

    def _arrays(self, episode: Episode) -> dict[str, np.ndarray]:
        """What the part of an attempt holds: columns by name of what every frame has, and texts.

        Raises:
            DataError: The episode is none of CALVIN's.
        """
        where = f"Attempt {episode.attempt} of task '{episode.task}'"
        steps = len(episode.actions)
        columns: dict[str, tuple[Any, tuple[int, ...]]] = {
            "rel_actions": (episode.actions, (steps, self.spaces.actions.dim)),
            "actions": (episode.arrays.get("absolute_actions"), (steps, self.spaces.actions.dim)),
            "states": (episode.states, (steps, _STATES)),
        }
        for camera in self.spaces.cameras:
            columns[camera.name] = (episode.images.get(camera.name), (steps, camera.height, camera.width, 3))
        for name, (values, shape) in columns.items():
            found = None if values is None else values.shape
            if found != shape or not steps:
                raise DataError(
                    f"{where} has {name} of shape {found}, not {shape}.",
                    "Only benchmark 'calvin' is recorded in this layout; use another dataset type.",
                )
            if values.dtype != np.uint8 and not np.isfinite(values).all():
                raise DataError(f"{where} has {name} that are not finite.", "Correct the benchmark's expert.")
        said = {
            "instruction": episode.instruction,
            "initial_state": episode.initial_state,
            "facts": dict(episode.facts),
        }
        return {
            **{name: np.asarray(values) for name, (values, _) in columns.items()},
            "said": np.array(json.dumps(said)),
        }

    def _assemble(self, chosen: dict[str, list[int]]) -> dict[str, Any]:
        """Write the folder ``training``, tables and tasks one after the other; returns what is said of its episodes."""
        parts = [(task, self._part(task, attempt, ".npz")) for task, ones in chosen.items() for attempt in ones]
        if not parts:
            raise DataError("There is no episode to keep.", "Collect at least one.")
        ordered = sorted(
            ((_said(path)["facts"].get("table", ""), task, path) for task, path in parts), key=lambda one: one[0]
        )
        unfinished, final = self.folder / ".training.part", self.folder / "training"
        for left in (unfinished, final):  # by whoever was killed before everything was recorded
            shutil.rmtree(left, ignore_errors=True)
        (unfinished / "lang_annotations").mkdir(parents=True)
        spans: list[tuple[int, int]] = []
        tables: dict[str, list[int]] = {}
        sentences, experts, initial_states = [], Counter[str](), []
        for table, _, path in ordered:
            first, said = spans[-1][1] + 1 if spans else 0, _said(path)
            spans.append((first, _write_frames(path, unfinished, first)))
            tables.setdefault(f"calvin_scene_{table}", [first, 0])[1] = spans[-1][1]
            sentences.append(said["instruction"])
            experts[said["facts"].get("expert", "unknown")] += 1
            initial_states.append(said["initial_state"])
        count = len(spans)
        annotations = {
            "language": {
                "ann": sentences,
                "task": [task for _, task, _ in ordered],
                "emb": np.zeros((count, *_EMBEDDING), np.float32),
            },
            "info": {"episodes": [], "indx": spans},
        }
        np.save(unfinished / "lang_annotations" / FILE, np.array(annotations, dtype=object))
        np.save(unfinished / "ep_start_end_ids.npy", np.array(spans))
        np.save(unfinished / "ep_lens.npy", np.array([last - first + 1 for first, last in spans]))
        np.save(unfinished / "scene_info.npy", np.array(tables, dtype=object))
        unfinished.rename(final)
        return {
            "provenance": {"recorded_by": "vpolicy data collect", "human": False},
            "experts": dict(experts),
            "initial_states": initial_states,
        }


def _write_frames(part: Path, folder: Path, first: int) -> int:
    """Write the frames of an attempt; returns the number of the last one."""
    with np.load(part, allow_pickle=False) as content:
        columns = {name: content[name] for name in content.files if name != "said"}
    states = columns.pop("states")
    columns |= {"robot_obs": states[:, :_ROBOT], "scene_obs": states[:, _ROBOT:]}
    for step in range(len(states)):
        np.savez_compressed(frame_file(folder, first + step), **{name: rows[step] for name, rows in columns.items()})
    return first + len(states) - 1


def _said(part: Path) -> dict[str, Any]:
    """Sentence, initial state and facts of a recorded attempt.

    Raises:
        DataError: It is not there, or damaged.
    """
    try:
        with np.load(part, allow_pickle=False) as content:
            return dict(json.loads(str(content["said"])))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{part} holds no recorded attempt: {error}.", f"Delete {part} and run the same command again."
        ) from error


def _is_whole(path: Path) -> bool:
    """Whether a part holds what was written; one that does not is removed."""
    if path.suffix == _FAILED:
        return True
    with suppress(OSError, EOFError, zipfile.BadZipFile, zlib.error), zipfile.ZipFile(path) as archive:
        if archive.testzip() is None:  # compares checksums
            return True
    path.unlink()
    return False
