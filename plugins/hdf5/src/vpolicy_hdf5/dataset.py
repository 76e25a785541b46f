"""Episodes in HDF5 as training windows."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from videopolicy import (
    ActionSpace,
    Camera,
    DataError,
    Dataset,
    FieldStatistics,
    Spaces,
    StateSpace,
    Statistics,
    Window,
    Windows,
)
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
from vpolicy_hdf5.attributes import orientation_seen
from vpolicy_hdf5.choosing import actionless, check_skipped, data_files, tasks_of
from vpolicy_hdf5.collected import check_collection, verify_episodes
from vpolicy_hdf5.frames import FramesOnDisk
from vpolicy_hdf5.options import RobomimicHDF5Options
from vpolicy_hdf5.reading import Recorded, read_file, require_equal


class HDF5Dataset(Dataset):
    """All numbers are read and checked at once, images when windows are first asked for.

    Args:
        path: A file or a folder of files.
        options: What the recipe says about them.

    Raises:
        DataError: Naming file, episode and key of what is wrong.
    """

    def __init__(self, path: Path, options: RobomimicHDF5Options) -> None:
        tasks = tasks_of(path, data_files(path, options.files))
        self._files = tuple(tasks)
        check_skipped(tasks.values(), options.skip)
        silent = actionless(tasks.values(), options.actionless_tasks)
        contents = [read_file(file, task, task not in silent, options) for file, task in tasks.items()]
        episodes = [episode for one in contents for episode in one.episodes]
        check_collection(path)
        declared = [one.spaces for one in contents]
        self._spaces = _spaces(declared, episodes, options)
        self._mirror = self._spaces.cameras[0].orientation != orientation_seen(declared)
        self._remarks = (
            *_experts(episodes),
            *(remark for one in contents for remark in one.remarks),
            *_changed_sentences(episodes),
        )
        held = _for_validation(episodes, options.validation)
        self._episodes = {
            TRAIN: [episode for episode, out in zip(episodes, held, strict=True) if not out],
            VALIDATION: [episode for episode, out in zip(episodes, held, strict=True) if out],
        }
        size = sum(e.steps * height * width * 3 for e in episodes for height, width in e.image_shapes.values())
        self._in_memory = size <= options.memory_limit * 2**30
        self._frames: dict[str, Frames] = {}
        self._stride = options.window_stride
        self._padding = options.action_padding

    @property
    def spaces(self) -> Spaces:
        return self._spaces

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._remarks

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(chosen) for split, chosen in self._episodes.items() if chosen or split == TRAIN}

    def fingerprint(self, actions: bool = True) -> str:
        padding = self._padding if actions else ""
        content = hashlib.sha256(f"{self._spaces.model_dump_json()}|{self._stride}|{padding}".encode())
        for split, chosen in self._episodes.items():
            for episode in chosen:
                content.update(f"{split}|{episode.task}|{episode.instruction}|{episode.digest}\n".encode())
                content.update(f"{episode.image_keys}|{episode.orientation}\n".encode())
                if actions:
                    content.update(b"video" if episode.actions is None else episode.actions.tobytes())
        return content.hexdigest()

    def files(self) -> tuple[Path, ...]:
        return self._files

    def verify(self) -> None:
        for file in self._files:
            verify_episodes(file)

    def statistics(self) -> Statistics:
        chosen = self._episodes[TRAIN]
        actions = [episode.actions for episode in chosen if episode.actions is not None]
        state = [episode.state for episode in chosen if episode.state is not None]
        return Statistics(
            actions=field_statistics(np.concatenate(actions)) if actions else _of_bounds(self._spaces.actions),
            state=field_statistics(np.concatenate(state)) if state else None,
        )

    def windows(self, window: Window, split: str = TRAIN) -> Windows:
        require_split(split, self.splits, "Set `validation` in the recipe's data section to hold episodes out.")
        episodes = self._episodes[split]
        if split not in self._frames:
            frames: Frames = FramesOnDisk(episodes, self._mirror)
            if self._in_memory:
                frames = FramesInMemory(frames, episodes[0].image_keys, [episode.steps for episode in episodes])
            self._frames[split] = frames
        dim = self._spaces.actions.dim
        return EpisodeWindows(
            window,
            self._frames[split],
            cameras=list(episodes[0].image_keys),
            instructions=[episode.instruction for episode in episodes],
            actions=[np.full((e.steps, dim), np.nan, np.float32) if e.actions is None else e.actions for e in episodes],
            state=None if self._spaces.state is None else [e.state for e in episodes if e.state is not None],
            stride=self._stride,
            padding=self._padding,
        )

    def initial_states(self) -> frozenset[str]:
        found = (episode.initial_state for chosen in self._episodes.values() for episode in chosen)
        return frozenset(found) - {""}


def _spaces(declared: list[Spaces | None], episodes: list[Recorded], options: RobomimicHDF5Options) -> Spaces:
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
    seen, sizes = options.pictures or orientation_seen(declared), first.image_shapes.items()
    return Spaces(
        cameras=tuple(Camera(name=name, height=h, width=w, orientation=seen) for name, (h, w) in sizes),
        actions=actions,
        state=StateSpace(names=first.state_names) if first.state is not None else None,
    )


def _experts(episodes: list[Recorded]) -> list[str]:
    """One remark for every kind of expert that is no human."""
    counts = Counter(episode.expert for episode in episodes if episode.expert)
    return [
        f"{count} of {len(episodes)} episodes are demonstrations of a {kind} expert, not of a human"
        for kind, count in counts.items()
    ]


def _changed_sentences(episodes: list[Recorded]) -> list[str]:
    """One remark for every way in which sentences were made from what is stored."""
    changed: dict[str, list[Recorded]] = {}
    for episode in episodes:
        if episode.changed:
            changed.setdefault(episode.changed, []).append(episode)
    return [
        f"the sentences of {len(some)} episodes are not stored as plain text ({how}), such as "
        f"'{some[0].instruction}' of {some[0].file}, episode '{some[0].demo}'"
        for how, some in changed.items()
    ]


def _for_validation(episodes: list[Recorded], fraction: float | None) -> list[bool]:
    """Which episodes are for validation: a fraction of every task's, or those that the files' own masks name."""
    if fraction is None:
        held = [episode.held_out for episode in episodes]
        if all(held):
            raise DataError(
                f"The masks of {episodes[0].file} leave no episode for training.",
                "Set `validation` in the recipe's data section to a fraction below 1.",
            )
        return held
    return held_out([(episode.task, f"{episode.file.name}/{episode.demo}") for episode in episodes], fraction)


def _of_bounds(actions: ActionSpace) -> FieldStatistics:
    """Where no action is to be seen: those of actions that fill their bounds evenly."""
    low, high = np.array(actions.low), np.array(actions.high)
    return FieldStatistics(
        list(actions.low), list(actions.high), ((low + high) / 2).tolist(), ((high - low) / 12**0.5).tolist()
    )
