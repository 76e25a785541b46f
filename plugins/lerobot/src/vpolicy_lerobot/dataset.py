"""Episodes of a LeRobot dataset as training windows."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np

from videopolicy import (
    ActionSpace,
    Camera,
    DataError,
    Dataset,
    Spaces,
    Statistics,
    Window,
    Windows,
)
from videopolicy.parts.sentences import read_sentence
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
from vpolicy_lerobot.described import AGAIN, INFO, MARK, Mark, camera_features, read_info, read_mark, state_columns
from vpolicy_lerobot.episodes import read_index
from vpolicy_lerobot.frames import FramesOnDisk
from vpolicy_lerobot.options import LeRobotOptions
from vpolicy_lerobot.recorded import read_numbers
from vpolicy_lerobot.videos import ensure_sound

_HELD_OUT = (VALIDATION, "val")


class LeRobotDataset(Dataset):
    """All numbers are read and checked at once, and the heads of all videos; pictures are decoded when they are asked
    for.

    Args:
        options: What the recipe says.

    Raises:
        DataError: Naming the file of what is wrong.
    """

    def __init__(self, options: LeRobotOptions) -> None:
        root = options.path
        self._options, self._info = options, read_info(root)
        info, self._mark = self._info, read_mark(root)
        self._cameras = camera_features(info, options.cameras)
        state = state_columns(info, options.state)
        actions = _meaning(options, self._mark, root)
        if abs(actions.rate - info.fps) > 1e-6:
            raise DataError(
                f"{root / INFO} says {info.fps:g} steps a second, and `actions` a rate of {actions.rate:g}.",
                "Correct `rate` of `actions` in the recipe's data section; data of another rate than the benchmark's "
                "do not fit it.",
            )
        films = [key for key in self._cameras.values() if info.features[key].dtype == "video"]
        self._index = read_index(info, films)
        recorded = read_numbers(info, self._index.entries, options.action, state.columns, options.tolerance)
        self._actions = [_chosen(one.actions, options, actions, root) for one in recorded]
        self._state = [one.state for one in recorded] if state else None
        self._rows = [one.row for one in recorded]
        self._changed: list[str] = []
        self._sentences = [self._sentence(one.task) for one in recorded]
        mixed = sum(one.tasks > 1 for one in recorded)
        if mixed:
            self._changed.append(f"{mixed} episodes change their task on the way; the sentence is that of the first")
        for path, frames, size in self._films(films):
            ensure_sound(path, size, frames, info.fps)
        seen = options.orientation or (self._mark.orientation if self._mark else "upright")
        sizes = {name: info.features[key].size for name, key in self._cameras.items()}
        self._spaces = Spaces(
            cameras=tuple(
                Camera(name=name, height=size[0], width=size[1], orientation=seen)
                for name, size in sizes.items()
                if size
            ),
            actions=actions,
            state=state.space if state else None,
        )
        held = self._held_out()
        self._episodes = {TRAIN: np.flatnonzero(~held).tolist(), VALIDATION: np.flatnonzero(held).tolist()}
        if not self._episodes[TRAIN]:
            raise DataError(f"{root / INFO} leaves no episode for training.", "Set `validation` to a fraction below 1.")
        steps = sum(entry.length for entry in self._index.entries)
        needed = steps * sum(camera.height * camera.width * 3 for camera in self._spaces.cameras)
        self._in_memory = needed <= options.memory_limit * 2**30
        self._frames: dict[str, Frames] = {}

    def _sentence(self, task: int) -> str:
        root, options = self._options.path, self._options
        if task not in self._index.tasks:
            raise DataError(f"{root}: a step is of task {task}, which is not among meta/tasks.", AGAIN)
        stored = self._index.tasks[task]
        sentence = read_sentence(options.instructions.get(stored, stored), f"{root}: task {task}")
        if not sentence.text:
            raise DataError(
                f"{root}: task {task} is {stored!r}, which is no sentence.",
                "Give one under `instructions` in the recipe's data section.",
            )
        return sentence.text

    def _films(self, keys: list[str]) -> list[tuple[Path, int, tuple[int, int]]]:
        """Every video, how many frames episodes need of it, and its height and width.

        Raises:
            DataError: Two episodes begin where they share frames, so that one would show the other's.
        """
        spans: dict[tuple[Path, str], list[tuple[int, int, int]]] = {}
        for entry in self._index.entries:
            for key in keys:
                path, second = entry.videos[key]
                begin = round(second * self._info.fps)
                spans.setdefault((path, key), []).append((begin, begin + entry.length, entry.number))
        found = []
        for (path, key), inside in spans.items():
            inside.sort()
            for (_, end, one), (begin, _, other) in itertools.pairwise(inside):
                if begin < end:
                    raise DataError(
                        f"The video {path}: episode {other} begins at its frame {begin}, and episode {one} goes on to "
                        f"{end - 1}, as meta/episodes has it; its timestamps are shifted.",
                        AGAIN,
                    )
            if size := self._info.features[key].size:
                found.append((path, inside[-1][1], size))
        return found

    def _held_out(self) -> np.ndarray:
        count, fraction = len(self._index.entries), self._options.validation
        if fraction is not None:
            return np.array(held_out([(one, str(number)) for number, one in enumerate(self._sentences)], fraction))
        held = np.zeros(count, bool)
        for name in _HELD_OUT:
            begin, _, end = self._info.splits.get(name, "").partition(":")
            if begin.isdigit() and end.isdigit():
                held[int(begin) : int(end)] = True
        return held

    @property
    def remarks(self) -> tuple[str, ...]:
        experts, said = ({}, ()) if self._mark is None else (self._mark.experts, self._mark.remarks)
        ours = [
            f"{count} of {len(self._index.entries)} episodes are demonstrations of a {kind} expert, not of a human"
            for kind, count in sorted(experts.items())
        ]
        return (*dict.fromkeys([*ours, *said]), *self._changed)

    @property
    def spaces(self) -> Spaces:
        return self._spaces

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(chosen) for split, chosen in self._episodes.items() if chosen or split == TRAIN}

    def fingerprint(self, actions: bool = True) -> str:
        content = hashlib.sha256(f"{self._spaces.model_dump_json()}{self._options.window_stride}".encode())
        for split, chosen in self._episodes.items():
            content.update(f"\n{split}".encode())
            for number in chosen:
                entry = self._index.entries[number]
                places = [(key, path.stat().st_size, begin) for key, (path, begin) in entry.videos.items()]
                if len(places) < len(self._cameras):  # the others' pictures lie beside the numbers
                    places.append(("", entry.data.stat().st_size, 0.0))
                content.update(f"\n{number} {entry.length} {places} {self._sentences[number]}".encode())
                if self._state is not None:
                    content.update(self._state[number].tobytes())
                if actions:
                    content.update(self._actions[number].tobytes())
        content.update(str(sorted(self._cameras.items())).encode())
        if actions:
            content.update(self._options.action_padding.encode())
        return content.hexdigest()

    def files(self) -> tuple[Path, ...]:
        used = {path for entry in self._index.entries for path, _ in entry.videos.values()}
        used.update(entry.data for entry in self._index.entries)
        mark = [] if self._mark is None else [self._options.path / MARK]
        return (*self._index.files, *mark, *sorted(used))

    def statistics(self) -> Statistics:
        chosen = self._episodes[TRAIN]
        return Statistics(
            actions=field_statistics(np.concatenate([self._actions[number] for number in chosen])),
            state=None
            if self._state is None
            else field_statistics(np.concatenate([self._state[number] for number in chosen])),
        )

    def windows(self, window: Window, split: str = TRAIN) -> Windows:
        require_split(split, self.splits, "Set `validation` in the recipe's data section to hold episodes out.")
        chosen = self._episodes[split]
        entries = [self._index.entries[number] for number in chosen]
        if split not in self._frames:
            rows = [self._rows[number] for number in chosen]
            frames: Frames = FramesOnDisk(self._info, entries, rows, self._cameras, self._options.tolerance)
            if self._in_memory:
                frames = FramesInMemory(frames, self._cameras, [entry.length for entry in entries])
            self._frames[split] = frames
        return EpisodeWindows(
            window,
            self._frames[split],
            cameras=list(self._cameras),
            instructions=[self._sentences[number] for number in chosen],
            actions=[self._actions[number] for number in chosen],
            state=None if self._state is None else [self._state[number] for number in chosen],
            stride=self._options.window_stride,
            padding=self._options.action_padding,
        )

    def initial_states(self) -> frozenset[str]:
        """Known where our own writer knew them; LeRobot's format has no place for what a simulator is reset to."""
        return frozenset() if self._mark is None else self._mark.initial_states


def _meaning(options: LeRobotOptions, mark: Mark | None, root: Path) -> ActionSpace:
    """What the actions mean.

    Raises:
        DataError: Nobody says, or the recipe and the data disagree.
    """
    said = None if mark is None else mark.spaces.actions
    if options.actions is None and said is None:
        raise DataError(
            f"{root} does not say what its actions mean.",
            "Describe them under `actions` in the recipe's data section: names, low, high, control, rotation, gripper "
            "and rate.",
        )
    if options.actions is not None and said is not None and options.actions != said:
        raise DataError(
            f"{root / MARK} and the recipe's data section disagree about what the actions mean: "
            f"{said.model_dump_json()} | {options.actions.model_dump_json()}",
            "Leave `actions` out for data that were exported here.",
        )
    found = options.actions or said
    assert found is not None
    return found


def _chosen(actions: np.ndarray, options: LeRobotOptions, space: ActionSpace, root: Path) -> np.ndarray:
    """The columns ``(n, A)`` that are described."""
    columns, width = options.action_dimensions, actions.shape[1]
    if columns and max(columns) >= width:
        raise DataError(
            f"{root}: '{options.action}' has {width} dimensions, so there is no column {max(columns)} (they are "
            "counted from 0).",
            "Correct `action_dimensions` in the recipe's data section.",
        )
    found = actions[:, list(columns)] if columns else actions
    if found.shape[1] != space.dim:
        raise DataError(
            f"{root}: '{options.action}' has {found.shape[1]} dimensions where {space.dim} are described "
            f"({', '.join(space.names)}).",
            "Correct `actions` or `action_dimensions` in the recipe's data section.",
        )
    return found
