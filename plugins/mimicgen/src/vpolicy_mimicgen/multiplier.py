"""An attempt: segment after segment, each chosen, moved along with its object, and reached by interpolation."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from videopolicy import Motion, Scene, Source
from vpolicy_mimicgen.options import SubTask
from vpolicy_mimicgen.poses import between, distance
from vpolicy_mimicgen.segments import CutSource, Segment


class MimicGenMultiplier:
    """See `vpolicy_mimicgen.components.MimicGen`.

    Args:
        sources: Replayed demonstrations.
        tasks: Sub-tasks in order, by task.
        seed: Of all draws.

    Raises:
        DataError: See `CutSource`.
    """

    def __init__(self, sources: Sequence[Source], tasks: Mapping[str, Sequence[SubTask]], seed: int) -> None:
        self._tasks, self._seed = tasks, seed
        self._sources = {
            task: [CutSource(source, parts) for source in sources if source.task == task]
            for task, parts in tasks.items()
        }

    def guide(self, task: str, attempt: int, scene: Scene) -> Generator[Motion, Scene, None]:
        """See `Multiplier.guide`."""
        random = np.random.default_rng([self._seed, zlib.crc32(task.encode()), attempt])
        sources = self._sources[task]
        cuts = [source.cut(random) for source in sources]
        for number, part in enumerate(self._tasks[task]):
            now = scene.frames[part.object]
            segments = [source.segment(number, own, now) for source, own in zip(sources, cuts, strict=True)]
            scene = yield _motion(part, number, choose(part, segments, scene, random), scene.hand, random)


def choose(part: SubTask, segments: Sequence[Segment], scene: Scene, random: np.random.Generator) -> Segment:
    """The segment of the source that a sub-task's strategy selects."""
    now = scene.frames[part.object]
    if part.selection == "random":
        return segments[int(random.integers(len(segments)))]
    if part.selection == "nearest-object":
        distances = [distance(segment.then, now) for segment in segments]
    else:
        distances = [distance(segment.targets[0], scene.hand) for segment in segments]
    nearest = np.argsort(distances, kind="stable")[: part.among]
    return segments[int(random.choice(nearest))]


def _motion(part: SubTask, number: int, segment: Segment, hand: np.ndarray, random: np.random.Generator) -> Motion:
    approach = between(hand, segment.targets[0], part.interpolation)
    targets = np.concatenate([approach, segment.targets])
    gripper = np.concatenate([np.full(len(approach), segment.gripper[0]), segment.gripper])
    noise = part.noise * random.standard_normal((len(targets), 6))
    return Motion(targets, gripper, noise, {f"source_{number + 1}": segment.source})
