"""Writes collected episodes in CALVIN's own layout: one file for every frame, and an annotation for every episode."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from videopolicy import Episode
from videopolicy.parts.collecting import Attempts, CollectionWriter, ensure_arrays, ensure_npz_whole, said_in_npz
from vpolicy_calvin.frames.annotations import FILE
from vpolicy_calvin.frames.collected import MARKER, read_collection
from vpolicy_calvin.frames.files import frame_file

_STATES = 39
"""Numbers of ``robot_obs`` (15) and ``scene_obs`` (24), which are a state of the simulator."""
_ROBOT = 15
_EMBEDDING = (1, 384)
"""Shape of a sentence's embedding in CALVIN's annotations; nothing here reads or makes one, so they are zeros."""


class CalvinWriter(CollectionWriter):
    """See `CollectionWriter`. A part holds what every frame has as columns, and what is said of the episode."""

    marker: ClassVar[str] = MARKER
    suffix: ClassVar[str] = ".npz"

    def _read_marker(self) -> Attempts | None:
        return read_collection(self.folder)

    def _check(self, episode: Episode) -> None:
        steps = len(episode.actions)
        expected: dict[str, tuple[np.ndarray | None, tuple[int, ...]]] = {
            "rel_actions": (episode.actions, (steps, self.spaces.actions.dim)),
            "actions": (episode.arrays.get("absolute_actions"), (steps, self.spaces.actions.dim)),
            "states": (episode.states, (steps, _STATES)),
        }
        for camera in self.spaces.cameras:
            expected[camera.name] = (episode.images.get(camera.name), (steps, camera.height, camera.width, 3))
        ensure_arrays(
            episode, expected, "Only benchmark 'calvin' is recorded in this layout; use another dataset type."
        )

    def _write(self, episode: Episode, path: Path) -> None:
        assert episode.states is not None  # it was checked
        said = {
            "instruction": episode.instruction,
            "initial_state": episode.initial_state,
            "facts": dict(episode.facts),
        }
        columns = {
            "rel_actions": episode.actions,
            "actions": episode.arrays["absolute_actions"],
            "states": episode.states,
            **{camera.name: episode.images[camera.name] for camera in self.spaces.cameras},
        }
        with path.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, **columns, said=np.array(json.dumps(said)))

    def _verify(self, path: Path) -> None:
        ensure_npz_whole(path)

    def _assemble(self, chosen: Mapping[str, list[int]]) -> dict[str, Any]:
        """Write the folder ``training``, tables and tasks one after the other."""
        parts = [(task, part) for task, ones in self._successes(chosen).items() for part in ones]
        ordered = sorted(
            ((said_in_npz(path)["facts"].get("table", ""), task, path) for task, path in parts), key=lambda one: one[0]
        )
        unfinished, final = self.folder / ".training.part", self.folder / "training"
        for left in (unfinished, final):  # by whoever was killed before everything was recorded
            shutil.rmtree(left, ignore_errors=True)
        (unfinished / "lang_annotations").mkdir(parents=True)
        spans: list[tuple[int, int]] = []
        tables: dict[str, list[int]] = {}
        sentences, experts, initial_states = [], Counter[str](), []
        for table, _, path in ordered:
            first, said = spans[-1][1] + 1 if spans else 0, said_in_npz(path)
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
