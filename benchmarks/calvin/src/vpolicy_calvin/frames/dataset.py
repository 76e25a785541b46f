"""Annotated segments as training windows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videopolicy import Camera, DataError, Dataset, Spaces, Statistics, Window, Windows
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
from vpolicy_calvin.frames.annotations import FILE, Segment, annotation_file, has_annotations, read_segments
from vpolicy_calvin.frames.collected import read_collection
from vpolicy_calvin.frames.files import FramesOnDisk, frame_file, image_size
from vpolicy_calvin.frames.numbers import Numbers, read_numbers
from vpolicy_calvin.options import CalvinNpzOptions

if TYPE_CHECKING:
    from videopolicy import Reporter

FOLDERS = {TRAIN: "training", VALIDATION: "validation"}


class CalvinDataset(Dataset):
    """All numbers are read and checked when the data set is opened, images when windows are first asked for.

    Args:
        options: What the recipe says.
        recorded: Spaces of the benchmark: what actions and state mean.
        cache: Where numbers are kept for the next time; None keeps nothing.
        reporter: Shows progress.

    Raises:
        DataError: Naming the file of what is wrong.
    """

    def __init__(
        self, options: CalvinNpzOptions, recorded: Spaces, cache: Path | None = None, reporter: Reporter | None = None
    ) -> None:
        self._options = options
        assert options.path is not None  # it was collected, or is named
        self._path = options.path
        self._collection = read_collection(self._path)
        self._segments = {TRAIN: _chosen(read_segments(self._annotations(TRAIN)), options.share)}
        if has_annotations(self._folder(VALIDATION), options.annotations):
            self._segments[VALIDATION] = read_segments(self._annotations(VALIDATION))
        first = frame_file(self._folder(TRAIN), self._segments[TRAIN][0].first)
        self._sizes: dict[str, tuple[int, int]] = {camera: image_size(first, camera) for camera in options.cameras}
        self._spaces = Spaces(
            cameras=tuple(Camera(name=name, height=h, width=w) for name, (h, w) in self._sizes.items()),
            actions=recorded.actions,
            state=recorded.state,
        )
        self._numbers = {split: self._read(split, cache, reporter) for split in self._segments}
        steps = sum(segment.steps for segments in self._segments.values() for segment in segments)
        size = steps * sum(height * width * 3 for height, width in self._sizes.values())
        self._in_memory = size <= options.memory_limit * 2**30
        self._frames: dict[str, Frames] = {}

    def _folder(self, split: str) -> Path:
        return self._path / FOLDERS[split]

    def _annotations(self, split: str) -> Path:
        return annotation_file(self._folder(split), self._options.annotations)

    def _read(self, split: str, cache: Path | None, reporter: Reporter | None) -> Numbers:
        frames = np.unique(self._steps(split))
        arguments = self._folder(split), frames, self._options.cameras, cache
        if reporter is None:
            return read_numbers(*arguments)
        with reporter.activity(f"read {FOLDERS[split]} frames of {self._path}", len(frames)) as progress:
            return read_numbers(*arguments, progress.advance)

    def _steps(self, split: str) -> np.ndarray:
        """Numbers of the frames of all segments, one segment after the other."""
        return np.concatenate([np.arange(one.first, one.last + 1) for one in self._segments[split]])

    def _rows(self, split: str) -> np.ndarray:
        """Where the steps of all segments stand among the numbers."""
        return np.searchsorted(self._numbers[split].frames, self._steps(split))

    @property
    def spaces(self) -> Spaces:
        return self._spaces

    @property
    def remarks(self) -> tuple[str, ...]:
        found = [] if self._collection is None else self._collection.remarks
        held = self._folder(VALIDATION)
        if VALIDATION not in self._segments and self._collection is None:
            reason = f"has no {self._options.annotations}/{FILE}" if held.is_dir() else "is not there"
            found.append(f"{held} {reason}: there is no split `{VALIDATION}`")
        changed = [one for segments in self._segments.values() for one in segments if one.changed]
        if changed:
            found.append(
                f"the sentences of {len(changed)} segments are not stored as plain text ({changed[0].changed}), "
                f"such as '{changed[0].sentence}' of frames {changed[0].place}"
            )
        return tuple(found)

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(segments) for split, segments in self._segments.items()}

    def fingerprint(self, actions: bool = True) -> str:
        content = hashlib.sha256(self._spaces.model_dump_json().encode())
        for split, segments in self._segments.items():
            content.update("\n".join([split, *map(repr, segments)]).encode())
            numbers = self._numbers[split]
            for values in (numbers.frames, numbers.images, numbers.states, *([numbers.actions] if actions else [])):
                content.update(values.tobytes())
        content.update(str(self._options.window_stride).encode())
        if actions:
            content.update(str(self._options.steps_ahead).encode())
        return content.hexdigest()

    def statistics(self) -> Statistics:
        rows, numbers = self._rows(TRAIN), self._numbers[TRAIN]
        return Statistics(actions=field_statistics(numbers.actions[rows]), state=field_statistics(numbers.states[rows]))

    def windows(self, window: Window, split: str = TRAIN) -> Windows:
        require_split(
            split,
            self.splits,
            f"Put the data set's `{FOLDERS[VALIDATION]}` folder, with its annotations, beside `{FOLDERS[TRAIN]}`.",
        )
        segments, numbers, rows = self._segments[split], self._numbers[split], self._rows(split)
        lengths = [segment.steps for segment in segments]
        if split not in self._frames:
            frames: Frames = FramesOnDisk(self._folder(split), self._steps(split), self._sizes)
            self._frames[split] = FramesInMemory(frames, self._sizes, lengths) if self._in_memory else frames
        ends = np.cumsum(lengths)[:-1]
        windows = EpisodeWindows(
            window,
            self._frames[split],
            cameras=self._options.cameras,
            instructions=[segment.sentence for segment in segments],
            actions=np.split(numbers.actions[rows], ends),
            state=np.split(numbers.states[rows], ends),
            stride=self._options.window_stride,
            ahead=self._options.steps_ahead,
        )
        if not len(windows):
            raise DataError(
                f"None of the {len(segments)} segments in {self._folder(split)} is longer than the "
                f"{self._options.steps_ahead} steps of `steps_ahead`.",
                "Lower `steps_ahead` in the recipe's data section.",
            )
        return windows

    def initial_states(self) -> frozenset[str]:
        """Of collected demonstrations. Chains begin in states that were composed for it; none of them was recorded."""
        return frozenset() if self._collection is None else self._collection.initial_states


def _chosen(segments: list[Segment], share: float) -> list[Segment]:
    """A share of every task's segments, chosen by a hash of where they lie."""
    left_out = held_out([(segment.task, segment.place) for segment in segments], 1 - share)
    return [segment for segment, out in zip(segments, left_out, strict=True) if not out]
