"""Reads and writes the episodes of `videopolicy.testing.toy_dataset`."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videopolicy.contracts.dataset import Dataset, Episode, Statistics, Windows
from videopolicy.parts.collecting import CollectionWriter, ensure_as_declared, ensure_npz_whole, read_npz
from videopolicy.parts.windows import TRAIN, VALIDATION, EpisodeWindows, field_statistics, held_out, require_split
from videopolicy.spaces import Spaces
from videopolicy.types import Window

EPISODES, MARKER = "episodes", "episodes.json"


class ToyWriter(CollectionWriter):
    """A part is an episode of the dataset already."""

    marker, suffix = MARKER, ".npz"

    def _check(self, episode: Episode) -> None:
        ensure_as_declared(episode, self.spaces, "Correct the benchmark's expert.")

    def _write(self, episode: Episode, path: Path) -> None:
        said = {name: getattr(episode, name) for name in ("task", "instruction", "initial_state")}
        arrays: dict[str, Any] = {f"images/{camera}": images for camera, images in episode.images.items()}
        if episode.state is not None:
            arrays["state"] = episode.state
        with path.open("wb") as file:
            np.savez(file, said=json.dumps(said), actions=episode.actions, **arrays)

    def _verify(self, path: Path) -> None:
        ensure_npz_whole(path)

    def _assemble(self, chosen: Mapping[str, list[int]]) -> dict[str, Any]:
        folder = self.folder / EPISODES
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        parts = [part for ones in self._successes(chosen).values() for part in ones]
        for number, part in enumerate(parts):
            shutil.copyfile(part, folder / f"{number:06d}.npz")
        return {"spaces": self.spaces.model_dump(mode="json")}


class _Frames:
    """Frames in memory, per camera ``(steps, 3, height, width)``."""

    def __init__(self, images: Mapping[str, Tensor]) -> None:
        self._images = images

    def take(self, camera: str, indices: np.ndarray) -> Tensor:
        return self._images[camera][torch.from_numpy(indices)]


class ToyEpisodes(Dataset):
    """What `ToyWriter` has written."""

    def __init__(self, folder: Path, validation: float) -> None:
        self._spaces = Spaces.model_validate(json.loads((folder / MARKER).read_text(encoding="utf-8"))["spaces"])
        paths = sorted((folder / EPISODES).glob("*.npz"))
        self._digest = hashlib.sha256(f"{validation}".encode())
        for path in paths:
            self._digest.update(path.read_bytes())
        self._episodes = [read_npz(path) for path in paths]
        held = held_out([(said["task"], said["initial_state"]) for _, said in self._episodes], validation)
        self._split = {
            TRAIN: [number for number, out in enumerate(held) if not out],
            VALIDATION: [number for number, out in enumerate(held) if out],
        }

    @property
    def spaces(self) -> Spaces:
        return self._spaces

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(chosen) for split, chosen in self._split.items()}

    def fingerprint(self, actions: bool = True) -> str:
        return self._digest.hexdigest()

    def _arrays(self, name: str, split: str) -> list[np.ndarray]:
        return [self._episodes[number][0][name] for number in self._split[split]]

    def statistics(self) -> Statistics:
        state = self._arrays("state", TRAIN) if self._spaces.state else None
        return Statistics(
            field_statistics(np.concatenate(self._arrays("actions", TRAIN))),
            field_statistics(np.concatenate(state)) if state else None,
        )

    def windows(self, window: Window, split: str = TRAIN) -> Windows:
        require_split(split, self._split, "Raise `validation`.")
        cameras = [camera.name for camera in self._spaces.cameras]
        images = {
            camera: torch.from_numpy(np.concatenate(self._arrays(f"images/{camera}", split))).movedim(-1, 1)
            for camera in cameras
        }
        return EpisodeWindows(
            window,
            _Frames(images),
            cameras,
            [self._episodes[number][1]["instruction"] for number in self._split[split]],
            self._arrays("actions", split),
            self._arrays("state", split) if self._spaces.state else None,
        )

    def initial_states(self) -> frozenset[str]:
        return frozenset(said["initial_state"] for _, said in self._episodes)
