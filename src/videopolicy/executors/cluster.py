"""An engine that sends units of work to other machines."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Dataset
from videopolicy.errors import VpolicyError
from videopolicy.executors.units import Outcome, Unit, write_output
from videopolicy.recipes.recipe import Recipe
from videopolicy.storage.provenance import EvaluationFacts, StageFacts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store

if TYPE_CHECKING:
    from videopolicy.training.planning import PlannedStage
    from videopolicy.training.session import Session

_HOPELESS = 3
"""Failures, before anything has succeeded, after which the rest is not tried: the nodes miss what all units need."""


class ExecutionError(VpolicyError):
    """Units could not be carried out."""


class ClusterExecutor(ABC):
    """Cuts a run's work into units; its subclasses know how to send them.

    Args:
        shards: Units into which an evaluation is cut at least.
    """

    name: str

    def __init__(self, shards: int = 1) -> None:
        self.shards = shards

    @abstractmethod
    def map(self, units: Sequence[Unit], reporter: Reporter) -> Generator[Outcome, None, None]:
        """Carry out all units, each of them as often as it takes, and yield their outcomes as they come.

        Closing the generator takes back the units that are still under way.

        Raises:
            ExecutionError: The engine cannot be reached.
        """

    def succeeded(self, units: Sequence[Unit], logs: Path, reporter: Reporter) -> Iterator[Outcome]:
        """Carry out units and yield those that succeed.

        Args:
            units: The units.
            logs: Gets what every unit has said, in a file named by its id.
            reporter: Shows what the engine does.

        Raises:
            ExecutionError: Units have failed for good. Raised last: what the others have returned is kept.
        """
        failed: list[Outcome] = []
        count = 0
        with contextlib.closing(self.map(units, reporter)) as outcomes:
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
            error = ExecutionError(
                f"{len(failed)} of {len(units)} units failed. {first.unit.title}: {first.error.message}{others}",
                f"{first.error.hint} Logs are in {logs}. Run the same command again to go on; what was finished is "
                "kept.",
            )
            error.exit_code = first.error.exit_code
            raise error

    def train_ahead(self, recipes: Sequence[Recipe], store: Store, reporter: Reporter) -> None:
        """Train all stages of all recipes: what they share once, and all that is ready at the same time."""
        from videopolicy.executors.waves import train_all

        train_all(recipes, store, self, reporter)

    def train(self, session: Session, planned: Sequence[PlannedStage], dataset: Dataset | None) -> Iterator[StageFacts]:
        from videopolicy.executors.waves import train_planned
        from videopolicy.training.stages import train

        trained = train_planned([(session.recipe, one) for one in planned], session.store, self, session.reporter)
        for one in planned:
            yield trained[one.key] if one.key in trained else train(session, one, dataset)

    def evaluate(
        self, session: Session, planned: list[PlannedStage], folder: RunFolder, python: Path
    ) -> EvaluationFacts | None:
        from videopolicy.executors.sharding import evaluate_in_units

        return evaluate_in_units(self, session, planned, folder)
