"""Where a run's work is done: what every engine does for it, and the engine that does it in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Dataset
from videopolicy.recipes.recipe import Recipe
from videopolicy.storage.provenance import EvaluationFacts, StageFacts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store

if TYPE_CHECKING:
    from videopolicy.training.planning import PlannedStage
    from videopolicy.training.session import Session


class Executor(Protocol):
    """An engine.

    Args:
        name: As the command line has it.
    """

    name: str

    def train_ahead(self, recipes: Sequence[Recipe], store: Store, reporter: Reporter) -> None:
        """Train stages of several recipes before any of them is run, where that saves time.

        Raises:
            VpolicyError: Stages have failed. Raised last: all that do not build on them are finished.
        """
        ...

    def train(self, session: Session, planned: Sequence[PlannedStage], dataset: Dataset | None) -> Iterator[StageFacts]:
        """Train what is missing of a recipe's stages, in order.

        Yields:
            What is recorded of every stage, those that were finished earlier included.
        """
        ...

    def evaluate(
        self, session: Session, planned: list[PlannedStage], folder: RunFolder, python: Path
    ) -> EvaluationFacts | None:
        """Run all missing episodes.

        Args:
            session: The recipe.
            planned: Its trained stages.
            folder: Of the run.
            python: Interpreter of the simulator on this machine.

        Returns:
            What it took; None when nothing was missing.
        """
        ...


class LocalExecutor:
    """One thing after the other, in this process."""

    name = "local"

    def train_ahead(self, recipes: Sequence[Recipe], store: Store, reporter: Reporter) -> None:
        """Nothing: every run trains its own, and its results are there sooner."""

    def train(self, session: Session, planned: Sequence[PlannedStage], dataset: Dataset | None) -> Iterator[StageFacts]:
        from videopolicy.training.stages import train

        for one in planned:
            yield train(session, one, dataset)

    def evaluate(
        self, session: Session, planned: list[PlannedStage], folder: RunFolder, python: Path
    ) -> EvaluationFacts | None:
        from videopolicy.evaluation.evaluate import evaluate

        return evaluate(session, planned, folder, python)
