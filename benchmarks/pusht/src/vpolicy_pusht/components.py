"""PushT's tasks, spaces and protocol; its simulator is not part of this version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from videopolicy import (
    ActionSpace,
    Camera,
    Component,
    PublishedNumber,
    Spaces,
    StateSpace,
    Task,
    hookimpl,
)
from videopolicy.parts.catalogue import published_numbers
from videopolicy.parts.no_simulator import BenchmarkWithoutSimulator

FOLDER = Path(__file__).parent
TASKS = {"fixed": "pusht", "random": "pusht-m"}
"""Task by where goals lie."""
GOALS = {
    "fixed": "x 256, y 256, 45 degrees",
    "random": "x and y uniform in 256 +- 100, angle in a full turn, drawn with the episode's seed",
}
MAX_STEPS = 300
WORKSPACE = 512.0
"""Height and width of the plane, in the simulator's own units."""

Channel = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Channel, Channel, Channel]


class PushT(BenchmarkWithoutSimulator):
    """PushT and PushT-M: a round finger pushes a T onto a drawn target.

    PushT (Florence et al. 2021; Chi et al. 2023) has one target, PushT-M (Li et al. 2025) another in every episode.

    An episode's score is its largest coverage of the target, in multiples of the 0.95 that counts as a success, at most
    1. Papers report its mean over episodes, and sometimes call it a success rate.

    Args:
        goals: ``fixed``: the same target always (PushT). ``random``: one that the episode's seed draws (PushT-M).
        image_size: Height and width in pixels; demonstrations have 96.
        background_color: Red, green and blue behind everything; demonstrations have white.
        background_objects: Number of shapes that lie in the background and touch nothing; demonstrations have none.
        goal_color: Of the target; demonstrations have light green.
    """

    called: ClassVar[str] = "PushT"
    ordinal: ClassVar[str] = "coverage"
    type: Literal["pusht"] = "pusht"
    goals: Literal["fixed", "random"] = "fixed"
    image_size: int = Field(96, ge=16, le=1024)
    background_color: Color = (255, 255, 255)
    background_objects: int = Field(0, ge=0)
    goal_color: Color = (144, 238, 144)

    def spaces(self) -> Spaces:
        """Actions are where the finger shall go (a PD controller takes it there), the state where it is."""
        return Spaces(
            cameras=(Camera(name="image", height=self.image_size, width=self.image_size),),
            actions=ActionSpace(
                names=("x", "y"), low=(0.0, 0.0), high=(WORKSPACE, WORKSPACE), control="planar_target", rate=10.0
            ),
            state=StateSpace(names=("agent_x", "agent_y")),
        )

    def tasks(self) -> tuple[Task, ...]:
        sentence = "push the T-shaped block onto the T-shaped target"
        return (Task(name=TASKS[self.goals], instruction=sentence, max_steps=MAX_STEPS),)

    def protocol(self) -> dict[str, Any]:
        """Initial states, goals, success and pictures."""
        return {
            "success": "coverage above 0.95 at any step",
            "score": "largest coverage / 0.95, at most 1",
            "max_steps": MAX_STEPS,
            "initial_states": "numpy's RandomState(100000 + episode); the block's position is set before its angle",
            "goals": GOALS[self.goals],
            **self.model_dump(
                mode="json", include={"image_size", "background_color", "background_objects", "goal_color"}
            ),
        }

    def metrics(self, records: Sequence[dict[str, Any]]) -> dict[str, float]:
        """The number that papers report."""
        return {"mean max coverage": sum(record["score"] for record in records) / len(records)}

    def published(self) -> tuple[PublishedNumber, ...]:
        return published_numbers(FOLDER / "published.yaml")


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [PushT]
