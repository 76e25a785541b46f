"""gymnasium's MountainCarContinuous-v0 as a benchmark; its simulator runs in an environment of its own."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from videopolicy import ActionSpace, BenchmarkComponent, Camera, Spaces, StateSpace, Task, WorkerSpec

FOLDER = Path(__file__).parent


class MountainCar(BenchmarkComponent):
    """An engine too weak for the hill: the car has to swing up.

    Args:
        max_steps: Steps of 1/30 s after which an episode has failed; gymnasium allows 999.
    """

    ordinal: ClassVar[str] = "height"
    type: Literal["mountain-car"] = "mountain-car"
    max_steps: int = Field(200, ge=1)

    def spaces(self):
        return Spaces(
            cameras=(Camera(name="side", height=40, width=60),),
            actions=ActionSpace(names=("force",), low=(-1.0,), high=(1.0,), control="effort", rate=30.0),
            state=StateSpace(names=("position", "velocity")),
        )

    def tasks(self):
        return (Task(name="climb", instruction="drive up the hill on the right", max_steps=self.max_steps),)

    def launch(self):
        return WorkerSpec(
            environment="mountain-car",
            requirements=FOLDER / "requirements.txt",
            python=">=3.11,<3.14",
            module=FOLDER / "simulator.py",
            simulator="MountainCarSimulator",
            config={"max_steps": self.max_steps, "spaces": self.spaces().model_dump(mode="json")},
            variables={"SDL_VIDEODRIVER": "dummy"},  # pygame then needs no display
        )

    def protocol(self):
        return {"env": "MountainCarContinuous-v0", "max_steps": self.max_steps, "picture": "40 x 60, means of 10 x 10"}

    def metrics(self, records):
        solved = [record["steps"] for record in records if record["success"]]
        return {"steps to the top": sum(solved) / len(solved)} if solved else {}
