"""What cuts a run into units sees of the engine that carries them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from videopolicy.console.progress import Reporter
from videopolicy.executors.units import Outcome, Unit


class Sender(Protocol):
    """An engine; see `videopolicy.executors.cluster.ClusterExecutor`.

    Args:
        name: As the command line has it.
        shards: Units into which an evaluation is cut at least.
    """

    name: str
    shards: int

    def succeeded(self, units: Sequence[Unit], logs: Path, reporter: Reporter) -> Iterator[Outcome]:
        """Carry out units and yield those that succeed.

        Raises:
            ExecutionError: Units have failed for good. Raised last: what the others have returned is kept.
        """
        ...
