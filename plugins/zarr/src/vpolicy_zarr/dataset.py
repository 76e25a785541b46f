"""Episodes of a replay buffer as training windows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import zarr

from videopolicy import Camera, DataError, Dataset, Spaces, StateSpace, Statistics, Window, Windows
from videopolicy.parts.windows import (
    TRAIN,
    VALIDATION,
    EpisodeWindows,
    Frames,
    FramesInMemory,
    field_statistics,
    held_out,
    require_split,
)
from vpolicy_zarr.buffer import ensure_bright, episode_ends, images, numbers, open_buffer, readable
from vpolicy_zarr.chunks import ensure_regular_files, left_out
from vpolicy_zarr.frames import FramesOnDisk
from vpolicy_zarr.options import ReplayBufferZarrOptions


class ReplayBufferDataset(Dataset):
    """All numbers are read and checked at once, images when windows are first asked for.

    Args:
        options: What the recipe says.

    Raises:
        DataError: Naming the buffer and the array of what is wrong.
    """

    def __init__(self, options: ReplayBufferZarrOptions) -> None:
        path = options.path
        ensure_regular_files(path)
        root = open_buffer(path)
        self._options = options
        self._ends = episode_ends(root, path)
        steps = int(self._ends[-1])
        self._actions = numbers(root, path, options.action, steps, "action")
        if self._actions.shape[1] != options.actions.dim:
            raise DataError(
                f"{path}: 'data/{options.action}' has {self._actions.shape[1]} dimensions where {options.actions.dim} "
                f"are described ({', '.join(options.actions.names)}).",
                "Correct `actions` in the recipe's data section.",
            )
        read = {key: numbers(root, path, key, steps, "state") for key in {key for key, _ in options.state.values()}}
        for name, (key, column) in options.state.items():
            if not 0 <= column < read[key].shape[1]:
                raise DataError(
                    f"{path}: 'data/{key}' has {read[key].shape[1]} dimensions, so there is no column {column} for "
                    f"'{name}' (they are counted from 0).",
                    "Correct `state` in the recipe's data section.",
                )
        columns = [read[key][:, column] for key, column in options.state.values()]
        self._state = np.stack(columns, axis=1) if columns else None
        stored = {camera: images(root, path, key, steps) for camera, key in options.cameras.items()}
        self._remarks = self._looked_at(stored)
        self._spaces = Spaces(
            cameras=tuple(Camera(name=name, height=one.shape[1], width=one.shape[2]) for name, one in stored.items()),
            actions=options.actions,
            state=StateSpace(names=tuple(options.state)) if options.state else None,
        )
        held = np.array(held_out([("", str(number)) for number in range(len(self._ends))], options.validation))
        self._episodes = {TRAIN: np.flatnonzero(~held).tolist(), VALIDATION: np.flatnonzero(held).tolist()}
        size = sum(steps * one.shape[1] * one.shape[2] * 3 for one in stored.values())
        self._in_memory = size <= options.memory_limit * 2**30
        self._frames: dict[str, Frames] = {}
        self._digest = hashlib.sha256(self._ends.tobytes() + (b"" if self._state is None else self._state.tobytes()))
        for camera, one in stored.items():
            with readable(path, f"'data/{options.cameras[camera]}'"):
                self._digest.update(f"{camera}{one.shape}{one.dtype}{one.nbytes_stored()}".encode())
                self._digest.update(np.asarray(one[0]).tobytes() + np.asarray(one[-1]).tobytes())

    def _looked_at(self, stored: dict[str, zarr.Array]) -> tuple[str, ...]:
        """Check that all images are there; returns what is changed in reading them."""
        path, found = self._options.path, []
        for one in stored.values():
            with readable(path, f"'{one.path}'"):
                black = left_out(one, path, starts=np.array([0, *self._ends[:-1]]))
            ensure_bright(one, path)
            if len(black):
                found.append(
                    f"{path}: '{one.path}' has no chunk for the first image of {len(black)} episodes, such as at step "
                    f"{black[0]}; zarr leaves out what holds nothing but {one.fill_value}, and that is what is read"
                )
            if one.dtype.kind == "f":
                found.append(f"{path}: the images '{one.path}' are stored as floats, and are rounded to bytes")
        return tuple(found)

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._remarks

    @property
    def spaces(self) -> Spaces:
        return self._spaces

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(chosen) for split, chosen in self._episodes.items() if chosen or split == TRAIN}

    def fingerprint(self, actions: bool = True) -> str:
        content = self._digest.copy()
        chosen = self._options.model_dump_json(include={"instruction", "validation", "window_stride"})
        content.update(f"{self._spaces.model_dump_json()}{chosen}".encode())
        if actions:
            content.update(self._options.action_padding.encode())
            content.update(self._actions.tobytes())
        return content.hexdigest()

    def files(self) -> tuple[Path, ...]:
        path, options = self._options.path, self._options
        if path.is_file():
            return (path,)
        keys = {options.action, *options.cameras.values(), *(key for key, _ in options.state.values())}
        used = [path / "meta" / "episode_ends", *(path / "data" / key for key in sorted(keys))]
        return tuple(file for folder in used for file in sorted(folder.rglob("*")) if file.is_file())

    def statistics(self) -> Statistics:
        steps = np.concatenate([np.arange(*self._span(episode)) for episode in self._episodes[TRAIN]])
        return Statistics(
            actions=field_statistics(self._actions[steps]),
            state=None if self._state is None else field_statistics(self._state[steps]),
        )

    def windows(self, window: Window, split: str = TRAIN) -> Windows:
        require_split(split, self.splits, "Set `validation` in the recipe's data section to hold episodes out.")
        spans = [self._span(episode) for episode in self._episodes[split]]
        if split not in self._frames:
            first, last = np.array(spans).T
            frames: Frames = FramesOnDisk(self._options.path, self._options.cameras, first, last - first)
            if self._in_memory:
                frames = FramesInMemory(frames, self._options.cameras, last - first)
            self._frames[split] = frames
        return EpisodeWindows(
            window,
            self._frames[split],
            cameras=list(self._options.cameras),
            instructions=[self._options.instruction] * len(spans),
            actions=[self._actions[slice(*span)] for span in spans],
            state=None if self._state is None else [self._state[slice(*span)] for span in spans],
            stride=self._options.window_stride,
            padding=self._options.action_padding,
        )

    def initial_states(self) -> frozenset[str]:
        """Replay buffers do not record what a simulator could be reset to."""
        return frozenset()

    def _span(self, episode: int) -> tuple[int, int]:
        """First step of an episode, and the one after its last."""
        return (int(self._ends[episode - 1]) if episode else 0), int(self._ends[episode])
