"""Benchmarks whose simulator does not come with them."""

from __future__ import annotations

from typing import ClassVar

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.contracts.benchmark import WorkerSpec
from videopolicy.errors import SimulationError


class BenchmarkWithoutSimulator(BenchmarkComponent):
    """A benchmark of tasks, spaces, protocol and published numbers alone: policies are trained for it elsewhere.

    ``called`` is its name in messages.
    """

    called: ClassVar[str]

    def launch(self) -> WorkerSpec:
        """There is nothing to launch.

        Raises:
            SimulationError: Always; it says what works without.
        """
        package = type(self).__module__.partition(".")[0].replace("_", "-")
        raise SimulationError(
            f"{self.called}'s simulator is not part of this version of {package}, so nothing can be evaluated.",
            "Train with eval.episodes=0; `vpolicy check`, `vpolicy import` and `vpolicy bench` need no simulator.",
        )
