"""The toy benchmark: everything that a benchmark has, in milliseconds and without a physics engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from videopolicy.components.hookspecs import hookimpl
from videopolicy.components.kinds import BenchmarkComponent, Component
from videopolicy.contracts.benchmark import PublishedNumber, Task, WorkerSpec
from videopolicy.spaces import Spaces
from videopolicy.testing.toy_simulator import SENTENCES, spaces

TaskName = Literal["red", "green", "blue", "yellow"]


class ToyBenchmark(BenchmarkComponent):
    """Move a dot onto the square of the named colour.

    Args:
        task_names: The colours.
        image_size: Height and width in pixels.
        action_dim: 2, or 4 with two dimensions that do nothing.
        max_steps: Steps after which an episode, or a sub-task of a chain, has failed.
        chain: Colours that an episode goes to one after the other, the first that of the task; 1: it ends there.
        rephrased: Whether the simulator says another sentence from episode to episode.
        reset_seconds: What a reset takes, by episode, from the beginning again after the last.
        step_seconds: How long one action takes.
        dies_at, hangs_at, raises_at: Episode and step at which the worker does so.
        once: A file that is made at the first misbehaviour and prevents any further.
        wrong_spaces: Whether the simulator offers other spaces than this component declares.
        timeout: Seconds that one call may take.
        stored: How many stored initial states each task has; None: any number.
        demonstrations_from: Those of them from which demonstrations begin.
    """

    guided: ClassVar[bool] = True
    rerenders: ClassVar[bool] = True
    type: Literal["toy"] = "toy"
    task_names: tuple[TaskName, ...] = ("red", "green", "blue", "yellow")
    image_size: int = 16
    action_dim: Literal[2, 4] = 2
    max_steps: int = 30
    chain: int = Field(1, ge=1)
    rephrased: bool = False
    reset_seconds: tuple[float, ...] = ()
    step_seconds: float = 0.0
    dies_at: tuple[int, int] | None = None
    hangs_at: tuple[int, int] | None = None
    raises_at: tuple[int, int] | None = None
    once: str = ""
    wrong_spaces: bool = False
    timeout: float = 30.0
    stored: int | None = None
    demonstrations_from: tuple[int, int] | None = None

    def spaces(self) -> Spaces:
        return Spaces.model_validate(spaces(self.image_size, self.action_dim))

    def tasks(self) -> tuple[Task, ...]:
        return tuple(
            Task(name=name, instruction=SENTENCES[0].format(name), max_steps=self.chain * self.max_steps, tier="toy")
            for name in self.task_names
        )

    def stored_states(self) -> int | None:
        return self.stored

    def launch(self) -> WorkerSpec:
        switches = ("dies_at", "hangs_at", "raises_at", "once", "wrong_spaces")
        return WorkerSpec(
            environment="toy",
            module=Path(__file__).with_name("toy_simulator.py"),
            simulator="ToySimulator",
            config={
                "image_size": self.image_size,
                "action_dim": self.action_dim,
                **self.model_dump(include={"max_steps", "chain", "rephrased", "reset_seconds", "step_seconds"}),
                "stored": self.stored,
                "demonstrations_from": self.demonstrations_from,
                "misbehaviour": self.model_dump(mode="json", include=set(switches)),
            },
            timeout=self.timeout,
        )

    def protocol(self) -> dict[str, Any]:
        options = {"image_size", "action_dim", "max_steps", "chain", "rephrased"}
        return {"simulator": "toy 1", **self.model_dump(include=options)}

    def published(self) -> tuple[PublishedNumber, ...]:
        return (PublishedNumber(method="a ruler", metric="success", group="mean", value=1.0, source="arithmetic"),)

    def closeup(self) -> ToyBenchmark:
        return self.model_copy(update={"image_size": 4 * self.image_size})


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [ToyBenchmark]
