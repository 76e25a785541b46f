"""What training does otherwise than a recipe says."""

from __future__ import annotations

from typing import Any

from videopolicy.console.progress import Reporter


class Remarks:
    """Sentences that are printed once a process, and kept in checkpoints and in the facts of a stage.

    Args:
        stage: Name of the stage.
        reporter: Prints.
        known: Of the processes that were killed on the way.
    """

    def __init__(self, stage: str, reporter: Reporter, known: list[str]) -> None:
        self._stage, self._reporter, self._printed = stage, reporter, set[str]()
        self.all = list(known)

    def __deepcopy__(self, memo: dict[int, Any]) -> Remarks:
        return self  # the average of the weights is kept in a copy of what trains

    def add(self, text: str) -> None:
        """Say something, unless it was said before."""
        if text not in self._printed:
            self._printed.add(text)
            self._reporter.line(f"train {self._stage}: {text}")
        if text not in self.all:
            self.all.append(text)
