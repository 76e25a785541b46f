"""The toy benchmark on a machine that breaks, and is repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from videopolicy.components.hookspecs import hookimpl
from videopolicy.components.kinds import Component
from videopolicy.contracts.benchmark import WorkerSpec
from videopolicy.testing import toy_benchmark
from videopolicy.testing.toy_benchmark import ToyBenchmark

SIMULATOR = """
import os, sys
from pathlib import Path

sys.path.insert(0, {toys!r})
from toy_simulator import ToySimulator


class Moody(ToySimulator):
    def __init__(self, trouble, fault, **options):
        super().__init__(**options)
        self.trouble, self.fault = Path(trouble), fault
        if self._broken() and fault == "down":
            raise RuntimeError("the graphics driver has gone")

    def _broken(self):
        # Broken from the second episode on, until somebody has removed the file.
        return self.trouble.is_file() and self.trouble.read_text().count("reset") > 1

    def reset(self, task, episode, images=True):
        if self.trouble.is_file():
            with self.trouble.open("a") as file:
                file.write("reset\\n")
        if self._broken() and self.fault == "down":
            os._exit(9)
        return super().reset(task, episode, images)

    def demonstrate(self, task, attempt, action_noise):
        if self.trouble.is_file() and self.fault == "down" and attempt:
            os._exit(9)
        return super().demonstrate(task, attempt, action_noise)

    def score(self):
        return -1.0 - self._distance()

    def finished(self):
        return super().finished() and not (self._broken() and self.fault == "endless")

    def step(self, actions, frames):
        answer = super().step(actions, frames)
        if self._broken() and self.fault == "silent":
            del answer["done"]
        return answer
"""


class Moody(ToyBenchmark):
    """The toy benchmark.

    Args:
        fault: ``down``: its process dies and cannot be started; ``endless``: its episodes do not end; ``silent``: it
            does not say whether they have ended.
        trouble: A file while which exists it does so, from its second episode on. Its simulator is written beside it.
    """

    type: Literal["moody"] = "moody"
    trouble: str = ""
    fault: Literal["down", "endless", "silent"] = "down"

    def launch(self) -> WorkerSpec:
        spec = super().launch()
        module = Path(self.trouble).with_name("moody_simulator.py")
        if not module.exists():
            module.write_text(SIMULATOR.format(toys=str(Path(toy_benchmark.__file__).parent)), encoding="utf-8")
        config = {**spec.config, "trouble": self.trouble, "fault": self.fault}
        return spec.model_copy(update={"module": module, "simulator": "Moody", "config": config})


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Moody]
