"""The PushT benchmark. The simulator itself is never imported here: see ``simulator/``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from videopolicy import (
    ActionSpace,
    BenchmarkComponent,
    Camera,
    Component,
    PublishedNumber,
    Spaces,
    StateSpace,
    Task,
    WhenActing,
    WorkerSpec,
    hookimpl,
)
from videopolicy.parts.catalogue import published_numbers

FOLDER = Path(__file__).parent
TASKS = {"fixed": "pusht", "random": "pusht-m"}
"""Task by where goals lie."""
GOALS = {
    "fixed": "x 256, y 256, 45 degrees",
    "random": "x and y uniform in 256 +- 100, angle in a full turn, drawn with the episode's seed",
}
CONVENTIONS = {
    "initial_states": "numpy's RandomState(100000 + episode); the block's position is set before its angle",
    "action": "target of a PD controller (gains 100 and 20, 10 substeps of 0.01 s)",
    "image": "drawn at 512 pixels and scaled bilinearly; y points down; no marker of the action",
}
VERSIONS = {
    "gym-pusht": "0.1.8",
    "pymunk": "6.11.1",
    "pygame": "2.6.1",
    "opencv-python": "4.14.0.94",
    "shapely": "2.2.0",
}
"""What the simulator's results depend on; a simulator with others does not start."""
MAX_STEPS = 300
CLOSEUP_SIZE = 256
WORKSPACE = 512.0
"""Height and width of the plane, in the simulator's own units."""

PICTURES = ("image_size", "background_color", "background_objects", "goal_color")
"""Options that change pictures."""

Channel = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Channel, Channel, Channel]


class PushT(BenchmarkComponent):
    """PushT and PushT-M: a round finger pushes a T onto a drawn target.

    PushT (Florence et al. 2021; Chi et al. 2023) has one target, PushT-M (Li et al. 2025) another in every episode.

    An episode's score is its largest coverage of the target, in multiples of the 0.95 that counts as a success, at most
    1. Papers report its mean over episodes, and sometimes call it a success rate.

    Colors and background objects are disturbances that change pictures of evaluation episodes only: demonstrations are
    collected without, and a policy that was trained is evaluated with them without training again.

    Args:
        goals: ``fixed``: the same target always (PushT). ``random``: one that the episode's seed draws (PushT-M).
        image_size: Height and width in pixels; demonstrations have 96.
        background_color: Red, green and blue behind everything; demonstrations have white.
        background_objects: Number of shapes that lie in the background and touch nothing, others in every episode;
            demonstrations have none.
        goal_color: Of the target; demonstrations have light green.
    """

    ordinal: ClassVar[str] = "coverage"
    type: Literal["pusht"] = "pusht"
    goals: Literal["fixed", "random"] = "fixed"
    image_size: int = Field(96, ge=16, le=1024)
    background_color: Annotated[Color, WhenActing()] = (255, 255, 255)
    background_objects: Annotated[int, WhenActing()] = Field(0, ge=0)
    goal_color: Annotated[Color, WhenActing()] = (144, 238, 144)

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

    def launch(self) -> WorkerSpec:
        (task,) = self.tasks()
        return WorkerSpec(
            environment="pusht",
            requirements=FOLDER / "simulator" / "requirements.txt",
            python=">=3.11,<3.14",
            module=FOLDER / "simulator" / "simulator.py",
            simulator="PushTSimulator",
            config={
                **self.model_dump(mode="json", include={"goals", *PICTURES}),
                "task": task.name,
                "max_steps": task.max_steps,
                "spaces": self.spaces().model_dump(mode="json"),
                "versions": VERSIONS,
                "conventions": CONVENTIONS,
            },
            timeout=120.0,
        )

    def protocol(self) -> dict[str, Any]:
        """Versions, initial states, goals, success and pictures."""
        return {
            "simulator": VERSIONS,
            "success": "coverage above 0.95 at any step",
            "score": "largest coverage / 0.95, at most 1",
            "max_steps": MAX_STEPS,
            **CONVENTIONS,
            "goals": GOALS[self.goals],
            **self.model_dump(mode="json", include={*PICTURES}),
        }

    def metrics(self, records: Sequence[dict[str, Any]]) -> dict[str, float]:
        """The number that papers report."""
        return {"mean max coverage": sum(record["score"] for record in records) / len(records)}

    def closeup(self) -> PushT:
        return self.model_copy(update={"image_size": max(CLOSEUP_SIZE, self.image_size)})

    def published(self) -> tuple[PublishedNumber, ...]:
        return published_numbers(FOLDER / "published.yaml")


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [PushT]
