"""What a file for ``vpolicy data multiply`` can say; everything heavy is imported in ``build``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from videopolicy import Component, MultiplierComponent, did_you_mean, hookimpl, listing
from videopolicy.parts.options import Options

if TYPE_CHECKING:
    from videopolicy import Multiplier, Source

Share = Annotated[float, Field(ge=0, le=1)]


class End(Options):
    """The signal at which a sub-task of a source ends: one of the two.

    Args:
        gripper: The first action that opens the gripper, or closes it; it still belongs to the sub-task.
        lifted: Metres by which the object is higher than where the sub-task began.
    """

    gripper: Literal["opens", "closes"] | None = None
    lifted: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one(self) -> End:
        if (self.gripper is None) == (self.lifted is None):
            raise ValueError("an end is one signal: `gripper: opens`, `gripper: closes` or `lifted: METRES`")
        return self


class SubTask(Options):
    """A part of a task in which the hand moves relative to one object.

    Args:
        object: Name of the object, part or region.
        end: Where it ends in a source; left out for the last one, which ends with the demonstration.
        offset: Fewest and most steps after ``end`` at which it is cut, drawn anew for every attempt; they may be
            negative.
        selection: Which source it is taken from: any (``random``); one in which the object lay most like it lies now
            (``nearest-object``); one whose first pose, moved along, is nearest to the hand (``nearest-hand``).
        among: Of how many nearest ones one is drawn.
        noise: Standard deviation of Gaussian noise on translation and rotation of the executed actions, in units of the
            action bounds.
        interpolation: Steps from where the hand is to the first pose of the segment.
    """

    object: str
    end: End | None = None
    offset: tuple[int, int] = (0, 0)
    selection: Literal["random", "nearest-object", "nearest-hand"] = "random"
    among: int = Field(default=3, ge=1)
    noise: Share = 0.05
    interpolation: int = Field(default=5, ge=0, le=200)

    @field_validator("offset")
    @classmethod
    def _in_order(cls, offset: tuple[int, int]) -> tuple[int, int]:
        if offset[0] > offset[1]:
            raise ValueError(f"{list(offset)} is no range: write the fewest steps first")
        return offset


class MimicGen(MultiplierComponent):
    """Data generation of MimicGen (Mandlekar et al. 2023), written from the paper.

    A source is cut into segments, one a sub-task. In a new scene a segment is moved along with its object, reached by
    interpolation, and followed; attempts that succeed are kept.

    Args:
        tasks: Sub-tasks in order, by task.
        sources: Recorded episodes of every task that are used at most, the first ones.
        episodes_per_task: Successes to keep of every task.
        seed: Of all draws.
    """

    type: Literal["mimicgen"] = "mimicgen"
    tasks: dict[str, Annotated[tuple[SubTask, ...], Field(min_length=1)]]
    sources: int = Field(default=10, ge=1, le=10)
    episodes_per_task: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)

    @field_validator("tasks")
    @classmethod
    def _ends(cls, tasks: dict[str, tuple[SubTask, ...]]) -> dict[str, tuple[SubTask, ...]]:
        for task, parts in tasks.items():
            for number, part in enumerate(parts, 1):
                last = number == len(parts)
                if not last and part.end is None:
                    raise ValueError(f"sub-task {number} of '{task}' has no `end`, and another one follows it")
                if last and (part.end is not None or part.offset != (0, 0)):
                    raise ValueError(f"the last sub-task of '{task}' ends with the demonstration: leave out its end")
        return tasks

    def check(self, tasks: Sequence[str]) -> list[str]:
        unknown = [
            f"the benchmark has no task '{task}'.{did_you_mean(task, tasks)} It has {listing(tasks)}."
            for task in self.tasks
            if task not in tasks
        ]
        missing = [
            f"no sub-tasks of the benchmark's task '{task}' are listed." for task in tasks if task not in self.tasks
        ]
        return unknown + missing

    def build(self, sources: Sequence[Source]) -> Multiplier:
        from vpolicy_mimicgen.multiplier import MimicGenMultiplier

        return MimicGenMultiplier(sources, self.tasks, self.seed)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [MimicGen]
