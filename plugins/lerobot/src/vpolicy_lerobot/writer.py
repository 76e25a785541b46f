"""Writes episodes in LeRobot's format v3.0: many of them in one parquet file and in one video for every camera."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from videopolicy import DataError, Episode, Spaces
from videopolicy.parts.collecting import CollectionWriter, ensure_as_declared, ensure_npz_whole, read_npz, said_in_npz
from vpolicy_lerobot.assembling import Assembly
from vpolicy_lerobot.described import IMAGES, MARK, STATE
from vpolicy_lerobot.films import encoded
from vpolicy_lerobot.measures import counted


class LeRobotWriter(CollectionWriter):
    """See `CollectionWriter`. A part holds an episode's numbers and its videos, encoded.

    Of `Episode.facts`, ``split`` says which split it is of (``train`` where it is left out); those that all episodes
    share go into ``meta/videopolicy.json``.
    """

    marker: ClassVar[str] = MARK
    suffix: ClassVar[str] = ".npz"

    def __init__(self, folder: Path, spaces: Spaces) -> None:
        super().__init__(folder, spaces)
        self._rate = round(spaces.actions.rate)
        if abs(self._rate - spaces.actions.rate) > 1e-9 or self._rate < 1:
            raise DataError(
                f"LeRobot's format takes whole numbers of steps a second, and these data have {spaces.actions.rate:g}.",
                "Use another format.",
            )

    def _check(self, episode: Episode) -> None:
        ensure_as_declared(episode, self.spaces, "Correct the benchmark, or the data.")

    def _write(self, episode: Episode, path: Path) -> None:
        columns = {"action": np.asarray(episode.actions, np.float32)}
        if self.spaces.state is not None:
            columns[STATE] = np.asarray(episode.state, np.float32)
        for camera in self.spaces.cameras:
            frames = episode.images[camera.name]
            columns[f"pixels/{IMAGES}{camera.name}"] = counted(frames)
            columns[f"video/{IMAGES}{camera.name}"] = np.frombuffer(encoded(frames, self._rate), np.uint8)
        said = {
            "instruction": episode.instruction,
            "initial_state": episode.initial_state,
            "facts": dict(episode.facts),
        }
        with path.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **columns, said=np.array(json.dumps(said)))

    def _verify(self, path: Path) -> None:
        ensure_npz_whole(path)

    def _assemble(self, chosen: Mapping[str, list[int]]) -> dict[str, Any]:
        for left in ("data", "videos", "meta"):  # by whoever was killed before everything was recorded
            shutil.rmtree(self.folder / left, ignore_errors=True)
        parts = [part for ones in self._successes(chosen).values() for part in ones]
        told = [said_in_npz(part) for part in parts]
        order = sorted(range(len(parts)), key=lambda one: (_split(told[one]) != "train", _split(told[one])))
        assembly = Assembly(self.folder, self.spaces, self._rate)
        for number in order:
            columns, said = read_npz(parts[number])
            assembly.add(columns, said["instruction"], _split(said))
        experts = Counter(str(kind) for said in told if (kind := said["facts"].get("expert")))
        shared = dict(set(told[0]["facts"].items()).intersection(*(said["facts"].items() for said in told)))
        provenance = {"human": False, **{name: shared[name] for name in sorted(shared) if name != "split"}}
        if not experts:
            del provenance["human"]
        assembly.finish(provenance)
        return {
            "spaces": self.spaces.model_dump(mode="json"),
            "experts": dict(experts),
            "initial_states": [told[number]["initial_state"] for number in order],
            "provenance": provenance,
        }


def _split(said: Mapping[str, Any]) -> str:
    return str(said["facts"].get("split", "train"))
