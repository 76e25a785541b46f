"""Sources, cut where their sub-tasks end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from videopolicy import DataError, Source, did_you_mean, listing
from vpolicy_mimicgen.options import SubTask
from vpolicy_mimicgen.poses import moved_along


@dataclass(frozen=True)
class Segment:
    """A part of a source, moved along with its object.

    Args:
        source: Its name.
        then: Where the object was when it began, ``(4, 4)``.
        targets: ``(n, 4, 4)``.
        gripper: ``(n,)``.
    """

    source: str
    then: np.ndarray
    targets: np.ndarray
    gripper: np.ndarray


class CutSource:
    """A source whose sub-tasks are known.

    Args:
        source: The source.
        parts: Its sub-tasks in order.

    Raises:
        DataError: It has no such object, a sub-task does not end in it, or two could overlap.
    """

    def __init__(self, source: Source, parts: Sequence[SubTask]) -> None:
        self._source, self._parts = source, parts
        steps, ends = len(source.targets), [0]
        for number, part in enumerate(parts, 1):
            _ensure_there(source, part, number)
            ends.append(steps if part.end is None else _end(source, part, number, ends[-1]))
        self._ends = ends
        offsets = [(0, 0), *(part.offset for part in parts)]
        for number in range(1, len(ends)):
            latest, earliest = ends[number - 1] + offsets[number - 1][1], ends[number] + offsets[number][0]
            if latest >= earliest:
                raise DataError(
                    f"Sub-task {number} of '{source.task}' would be empty in the source {source.name}: it could begin "
                    f"at step {latest} and end at step {earliest}.",
                    "Narrow the `offset` of this sub-task or of the one before it.",
                )

    def cut(self, random: np.random.Generator) -> list[int]:
        """Draw where every sub-task begins, and the end."""
        drawn = [int(random.integers(*part.offset, endpoint=True)) for part in self._parts]
        return [0, *(end + offset for end, offset in zip(self._ends[1:], drawn, strict=True))]

    def segment(self, number: int, cuts: Sequence[int], now: np.ndarray) -> Segment:
        """A sub-task where its object has another pose.

        Args:
            number: Of the sub-task, from 0.
            cuts: What `cut` has drawn.
            now: The object's pose ``(4, 4)``.
        """
        first, end = cuts[number], cuts[number + 1]
        then = self._source.frames[self._parts[number].object][first]
        targets = moved_along(self._source.targets[first:end], then, now)
        return Segment(self._source.name, then, targets, self._source.gripper[first:end])


def _ensure_there(source: Source, part: SubTask, number: int) -> None:
    if part.object not in source.frames:
        names = sorted(source.frames)
        near = did_you_mean(part.object, names)
        raise DataError(
            f"The scene of '{source.task}' has no object '{part.object}', of which sub-task {number} is said to be."
            f"{near or f' It has {listing(names, 12)}.'}",
            "Name an object, a part of one or a region of the scene.",
        )


def _end(source: Source, part: SubTask, number: int, begin: int) -> int:
    """The first step after a sub-task."""
    assert part.end is not None
    if part.end.lifted is not None:
        height = source.frames[part.object][:, 2, 3]
        found = np.flatnonzero(height[begin:] >= height[begin] + part.end.lifted) + begin
        missing = f"'{part.object}' is never {part.end.lifted:g} m higher"
    else:
        closed = source.gripper > 0
        changes = np.flatnonzero(closed[1:] != closed[:-1]) + 1
        wanted = part.end.gripper == "closes"
        found = np.array([step + 1 for step in changes if step >= begin and closed[step] == wanted])
        missing = f"the gripper never {part.end.gripper}"
    if not len(found):
        raise DataError(
            f"Sub-task {number} of '{source.task}' does not end in the source {source.name}: from step {begin} of "
            f"{len(source.targets)} on, {missing}.",
            "Correct its `end`, or use other sources.",
        )
    return int(found[0])
