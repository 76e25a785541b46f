"""What a file for ``vpolicy data multiply`` can say; everything heavy is imported in ``build``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from videopolicy import Component, MultiplierComponent, did_you_mean, hookimpl, listing
from vpolicy_mimicgen.options import SubTask

if TYPE_CHECKING:
    from videopolicy import Multiplier, Source


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
