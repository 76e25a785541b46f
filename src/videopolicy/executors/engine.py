"""What runs units: here, or wherever an engine has room."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from videopolicy.console.progress import Reporter
from videopolicy.errors import VpolicyError
from videopolicy.executors.units import Outcome, Unit, perform, write_output

_HOPELESS = 3
"""Failures, before anything has succeeded, after which the rest is not tried: the nodes miss what all units need."""


class ExecutionError(VpolicyError):
    """Units could not be carried out."""


class Executor(Protocol):
    """An engine.

    Args:
        name: As the command line has it.
        shards: Units into which an evaluation is cut at least.
    """

    name: str
    shards: int

    def map(self, units: Sequence[Unit], reporter: Reporter) -> Generator[Outcome, None, None]:
        """Carry out all units, each of them as often as it takes, and yield their outcomes as they come.

        Closing the generator takes back the units that are still under way.

        Raises:
            ExecutionError: The engine cannot be reached.
        """
        ...


class LocalExecutor:
    """Carries out one unit after the other in this process."""

    name = "local"
    shards = 1

    def map(self, units: Sequence[Unit], reporter: Reporter) -> Generator[Outcome, None, None]:
        for unit in units:
            yield perform(unit, reporter)


def succeeded(executor: Executor, units: Sequence[Unit], logs: Path, reporter: Reporter) -> Iterator[Outcome]:
    """Carry out units and yield those that succeed.

    Args:
        executor: The engine.
        units: The units.
        logs: Gets what every unit has said, in a file named by its id.
        reporter: Shows what the engine does.

    Raises:
        ExecutionError: Units have failed for good. Raised last: what the others have returned is kept.
    """
    failed: list[Outcome] = []
    count = 0
    with contextlib.closing(executor.map(units, reporter)) as outcomes:
        for outcome in outcomes:
            write_output(outcome, logs)
            if outcome.error is None:
                count += 1
                yield outcome
                continue
            failed.append(outcome)
            if len(failed) == _HOPELESS and not count:
                break
    if failed:
        first = failed[0]
        assert first.error is not None
        others = f"\nThe same happened to, among others: {failed[-1].unit.title}." if len(failed) > 1 else ""
        raise ExecutionError(
            f"{len(failed)} of {len(units)} units failed. {first.unit.title}: {first.error.message}{others}",
            f"{first.error.hint} Logs are in {logs}. Run the same command again to go on; what was finished is kept.",
        )
