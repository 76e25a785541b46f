"""Episodes in HDF5 as training windows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from videopolicy import (
    ActionSpace,
    Batch,
    Camera,
    DataError,
    Dataset,
    FieldStatistics,
    Observation,
    Spaces,
    StateSpace,
    Statistics,
    Window,
    Windows,
)
from videopolicy.errors import listing
from vpolicy_hdf5.choosing import actionless, check_skipped, data_files, tasks_of
from vpolicy_hdf5.frames import Frames, FramesInMemory, FramesOnDisk
from vpolicy_hdf5.reading import Recorded, read_file, require_equal

if TYPE_CHECKING:
    from vpolicy_hdf5.components import RobomimicHDF5

TRAIN, VALIDATION = "train", "validation"


class HDF5Dataset(Dataset):
    """All numbers are read and checked at once, images when windows are first asked for.

    Args:
        path: A file or a folder of files.
        options: What the recipe says about them.

    Raises:
        DataError: Naming file, episode and key of what is wrong.
    """

    def __init__(self, path: Path, options: RobomimicHDF5) -> None:
        tasks = tasks_of(path, data_files(path, options.files))
        check_skipped(tasks.values(), options.skip)
        silent = actionless(tasks.values(), options.actionless_tasks)
        contents = [read_file(file, task, task not in silent, options) for file, task in tasks.items()]
        episodes = [episode for _, found in contents for episode in found]
        self._spaces = _spaces([spaces for spaces, _ in contents], episodes, options)
        held_out = _held_out(episodes, options.validation)
        self._episodes = {
            TRAIN: [episode for episode, held in zip(episodes, held_out, strict=True) if not held],
            VALIDATION: [episode for episode, held in zip(episodes, held_out, strict=True) if held],
        }
        size = sum(e.steps * height * width * 3 for e in episodes for height, width in e.image_shapes.values())
        self._store = FramesInMemory if size <= options.memory_limit * 2**30 else FramesOnDisk
        self._flip = options.orientation == "bottom-up"
        self._frames: dict[str, Frames] = {}
        self._stride = options.window_stride
        self._padding = options.action_padding

    @property
    def spaces(self) -> Spaces:
        return self._spaces

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(chosen) for split, chosen in self._episodes.items() if chosen or split == TRAIN}

    def fingerprint(self, actions: bool = True) -> str:
        padding = self._padding if actions else ""
        content = hashlib.sha256(f"{self._spaces.model_dump_json()}|{self._stride}|{padding}".encode())
        for split, chosen in self._episodes.items():
            for episode in chosen:
                content.update(f"{split}|{episode.task}|{episode.instruction}|{episode.digest}\n".encode())
                if actions:
                    content.update(b"video" if episode.actions is None else episode.actions.tobytes())
        return content.hexdigest()

    def statistics(self) -> Statistics:
        chosen = self._episodes[TRAIN]
        actions = [episode.actions for episode in chosen if episode.actions is not None]
        state = [episode.state for episode in chosen if episode.state is not None]
        return Statistics(
            actions=_statistics(np.concatenate(actions)) if actions else _of_bounds(self._spaces.actions),
            state=_statistics(np.concatenate(state)) if state else None,
        )

    def windows(self, window: Window, split: str = TRAIN) -> Windows:
        if split not in self.splits:
            raise DataError(
                f"The dataset has no split '{split}'; it has {listing(self.splits)}.",
                "Set `validation` in the recipe's data section to hold episodes out.",
            )
        if split not in self._frames:
            self._frames[split] = self._store(self._episodes[split], self._flip)
        return HDF5Windows(
            self._episodes[split], self._frames[split], window, self._stride, self._spaces.actions.dim, self._padding
        )

    def initial_states(self) -> frozenset[str]:
        found = (episode.initial_state for chosen in self._episodes.values() for episode in chosen)
        return frozenset(found) - {""}


class HDF5Windows:
    """One window for every ``stride``-th step of every episode; see `videopolicy.contracts.dataset.Dataset.windows`.

    Actions of an episode that has none to show are NaN and masked: a loss that overlooks the mask is found out.
    """

    def __init__(
        self,
        episodes: Sequence[Recorded],
        frames: Frames,
        window: Window,
        stride: int,
        action_dim: int,
        padding: Literal["mask", "zero"],
    ) -> None:
        lengths = np.array([episode.steps for episode in episodes])
        self._first = np.repeat(np.cumsum(lengths) - lengths, lengths)  # of the episode that a step belongs to
        self._last = self._first + np.repeat(lengths, lengths) - 1
        self._owner = np.repeat(np.arange(len(episodes)), lengths)
        steps = np.arange(len(self._owner))
        self._starts = steps[(steps - self._first) % stride == 0]
        self._cameras = list(episodes[0].image_keys)
        self._instructions = [episode.instruction for episode in episodes]
        self._supervised = np.array([episode.actions is not None for episode in episodes])
        self._actions = np.concatenate(
            [
                np.full((episode.steps, action_dim), np.nan, np.float32) if episode.actions is None else episode.actions
                for episode in episodes
            ]
        )
        self._padding = padding
        state = [episode.state for episode in episodes if episode.state is not None]
        self._state = np.concatenate(state) if state else None
        self._frames = frames
        self._observed = np.array(window.observed, np.int64)
        self._future = np.array(window.future, np.int64)
        self._horizon = np.arange(window.horizon)

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, indices: Sequence[int]) -> Batch:
        now = self._starts[np.asarray(indices, np.int64)]
        observed, _ = self._steps(now, self._observed)
        future, future_mask = self._steps(now, self._future)
        actions, action_mask = self._ahead(now)
        observation = Observation(
            images=self._images(observed),
            instructions=[self._instructions[owner] for owner in self._owner[now]],
            state=None if self._state is None else torch.from_numpy(self._state[observed]),
        )
        return Batch(
            observation,
            future=self._images(future) if len(self._future) else {},
            future_mask=torch.from_numpy(future_mask) if len(self._future) else None,
            actions=torch.from_numpy(actions) if len(self._horizon) else None,
            action_mask=torch.from_numpy(action_mask) if len(self._horizon) else None,
        )

    def _ahead(self, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Actions ``(B, H, A)`` from now on, and which of them count."""
        steps, there = self._steps(now, self._horizon)
        actions, supervised = self._actions[steps], self._supervised[self._owner[now], None]
        if self._padding == "mask":
            return actions, there & supervised
        actions[~there & supervised] = 0
        return actions, np.broadcast_to(supervised, there.shape).copy()

    def _steps(self, now: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Global steps ``(B, K)`` at offsets from now, held inside each episode, and which of them existed."""
        wanted = now[:, None] + offsets
        first, last = self._first[now, None], self._last[now, None]
        return np.clip(wanted, first, last), wanted <= last

    def _images(self, steps: np.ndarray) -> dict[str, torch.Tensor]:
        return {
            camera: self._frames.take(camera, steps.reshape(-1)).unflatten(0, steps.shape) for camera in self._cameras
        }


def _spaces(declared: list[Spaces | None], episodes: list[Recorded], options: RobomimicHDF5) -> Spaces:
    first = episodes[0]
    require_equal(episodes, [episode.image_shapes for episode in episodes], "The size of the cameras' images")
    require_equal(episodes, [episode.state_names for episode in episodes], "The state")
    stated = {spaces.actions for spaces in declared if spaces is not None}
    if options.actions is not None:
        stated.add(options.actions)
    if not stated:
        raise DataError(
            f"{first.file} does not say what its actions mean.",
            "Describe them under `actions` in the recipe's data section: names, low, high, control, rotation, "
            "gripper and rate.",
        )
    if len(stated) > 1:
        raise DataError(
            "The files, or the files and the recipe's data section, disagree about what the actions mean: "
            + " | ".join(sorted(space.model_dump_json() for space in stated)),
            "Use files of one kind, and leave `actions` out for files that were collected here.",
        )
    actions = stated.pop()
    for episode in episodes:
        if episode.actions is not None and episode.actions.shape[1] != actions.dim:
            raise DataError(
                f"{episode.file}, episode '{episode.demo}': 'actions' has {episode.actions.shape[1]} dimensions "
                f"where {actions.dim} are described ({', '.join(actions.names)}).",
                "Correct `actions` or `action_dimensions` in the recipe's data section, or remove the episode.",
            )
    return Spaces(
        cameras=tuple(Camera(name=name, height=h, width=w) for name, (h, w) in first.image_shapes.items()),
        actions=actions,
        state=StateSpace(names=first.state_names) if first.state is not None else None,
    )


def _held_out(episodes: list[Recorded], fraction: float | None) -> list[bool]:
    """Which episodes are for validation.

    They are chosen by a hash of task and place in the file, so that they stay held out when episodes are added.
    At least one episode of every task is kept for training.
    """
    if fraction is None:
        held = [episode.held_out for episode in episodes]
        if all(held):
            raise DataError(
                f"The masks of {episodes[0].file} leave no episode for training.",
                "Set `validation` in the recipe's data section to a fraction below 1.",
            )
        return held
    ranked: dict[str, list[tuple[str, int]]] = {}
    for index, episode in enumerate(episodes):
        place = hashlib.sha256(f"{episode.task}/{episode.file.name}/{episode.demo}".encode()).hexdigest()
        ranked.setdefault(episode.task, []).append((place, index))
    chosen: set[int] = set()
    for places in ranked.values():
        wanted = max(round(fraction * len(places)), 1) if fraction else 0
        chosen.update(index for _, index in sorted(places)[: min(wanted, len(places) - 1)])
    return [index in chosen for index in range(len(episodes))]


def _of_bounds(actions: ActionSpace) -> FieldStatistics:
    """Where no action is to be seen: those of actions that fill their bounds evenly."""
    low, high = np.array(actions.low), np.array(actions.high)
    return FieldStatistics(
        list(actions.low), list(actions.high), ((low + high) / 2).tolist(), ((high - low) / 12**0.5).tolist()
    )


def _statistics(values: np.ndarray) -> FieldStatistics:
    exact = values.astype(np.float64)
    return FieldStatistics(
        minimum=exact.min(0).tolist(),
        maximum=exact.max(0).tolist(),
        mean=exact.mean(0).tolist(),
        deviation=exact.std(0).tolist(),
    )
