"""Encoded clips as training windows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from videopolicy import NO_ACTIONS, Camera, DataError, Dataset, FieldStatistics, Spaces, Statistics, Window, Windows
from videopolicy.parts.files import ensure_data
from videopolicy.parts.windows import TRAIN, require_split
from vpolicy_encoded_clips.layout import AGAIN, Shards, read_shards
from vpolicy_encoded_clips.windows import EncodedRuns, EncodedWindows, NearWindows


class EncodedDataset(Dataset):
    """What ``vpolicy data encode`` has written of one dataset.

    Args:
        path: Holds one folder for every split, and in it one for every camera.
        shuffled_shards: Shards among which windows are shuffled; 0: all.

    Raises:
        DataError: It was not finished, or is damaged.
    """

    def __init__(self, path: Path, shuffled_shards: int) -> None:
        ensure_data(path)
        self._path, self._shuffled = path, shuffled_shards
        folders = sorted(folder for folder in path.glob("*/*") if folder.is_dir() and not folder.name.startswith("."))
        self._shards: dict[str, dict[str, Shards]] = {}
        for folder in folders:
            self._shards.setdefault(folder.parent.name, {})[folder.name] = read_shards(folder)
        if TRAIN not in self._shards:
            raise DataError(f"{path} holds no latents: there is no folder '{TRAIN}' with cameras in it.", AGAIN)
        self._facts = next(iter(self._shards[TRAIN].values())).facts
        cameras = self._shards[TRAIN].keys()
        for split, found in self._shards.items():
            same = len({one.windows for one in found.values()}) == 1
            if found.keys() != cameras or not same or any(self._differs(one) for one in found.values()):
                raise DataError(f"{path / split} was encoded from other data than {path / TRAIN}, or otherwise.", AGAIN)

    def _differs(self, shards: Shards) -> bool:
        return any(shards.facts[name] != self._facts[name] for name in ("encoder", "source", "observed", "future"))

    @property
    def spaces(self) -> Spaces:
        found = self._shards[TRAIN].items()
        cameras = [Camera(name=name, height=one.facts["height"], width=one.facts["width"]) for name, one in found]
        return Spaces(cameras=tuple(cameras), actions=NO_ACTIONS)

    @property
    def encoder(self) -> str:
        return str(self._facts["encoder"])

    @property
    def splits(self) -> dict[str, int]:
        return {split: int(next(iter(found.values())).facts["episodes"]) for split, found in self._shards.items()}

    def fingerprint(self, actions: bool = True) -> str:
        known = [[split, name, one.facts] for split, found in self._shards.items() for name, one in found.items()]
        return hashlib.sha256(json.dumps([known, self._shuffled]).encode()).hexdigest()

    def files(self) -> tuple[Path, ...]:
        folders = [self._path / split / name for split, found in self._shards.items() for name in found]
        return tuple(file for folder in folders for file in (*sorted(folder.glob("*.bin")), folder / "clips.json"))

    def statistics(self) -> Statistics:
        return Statistics(actions=FieldStatistics([], [], [], []))

    def windows(self, window: Window, split: str = TRAIN) -> Windows:
        require_split(split, self._shards, "Encode data of which something is held out.")
        asked, held = [window.observed, window.future], [tuple(self._facts[name]) for name in ("observed", "future")]
        if asked != held:
            raise DataError(
                f"The latents in {self._path} are of frames at {_listed(held)}, and frames at {_listed(asked)} are "
                "asked for.",
                "Encode the data again, or leave `stride` out of the part: it was applied when they were encoded.",
            )
        found = self._shards[split]
        runs = {name: EncodedRuns(self._path / split / name) for name in found}
        whole = EncodedWindows(found, runs)
        near = 0 < self._shuffled < len(whole.of_shards)
        return NearWindows(found, runs, self._shuffled) if near else whole

    def initial_states(self) -> frozenset[str]:
        """What was encoded does not say what a simulator could be reset to."""
        return frozenset()


def _listed(offsets: list[tuple[int, ...]]) -> str:
    return ", ".join(str(offset) for each in offsets for offset in each)
