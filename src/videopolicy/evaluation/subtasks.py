"""Where an episode stands: the sentence of now, and of a chain the sub-tasks that were begun and solved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videopolicy.contracts.benchmark import Task
from videopolicy.errors import SimulationError
from videopolicy.outcomes.records import SubtaskRecord


class Chain:
    """The sub-tasks of one episode; one without any has its sentence only.

    Args:
        task: What is to be done; its sentence serves where the simulator says none.
        reset: The answer to `reset`.
    """

    def __init__(self, task: Task, reset: Mapping[str, Any]) -> None:
        self.task = task
        self.names: list[str] = reset.get("subtasks", [])
        self.instruction: str = reset.get("instruction", task.instruction)
        self.first_instruction = self.instruction
        self.ended: list[SubtaskRecord] = []
        self._begun_with = self.instruction
        self._steps = 0
        self._solved: list[str] = []

    def check(self, answer: Mapping[str, Any]) -> SimulationError | None:
        """What is wrong with the sub-tasks of an answer to `step`; None for nothing."""
        solved = answer.get("solved")
        over = answer["success"] or answer["done"]
        if not self.names:
            if solved or "observation" in answer:
                return self._error("ends a sub-task", "its answer to `reset` named no `subtasks`")
            return None
        if solved is None:
            return self._error("does not say which sub-tasks are solved", "its answer to `step` has no `solved`")
        current = self.names[len(self.ended)]
        if solved not in (self._solved, [*self._solved, current]):
            said = ", ".join(solved) or "none"
            return self._error(f"says that these sub-tasks are solved: {said}", f"the one of now is '{current}'")
        if "observation" in answer and not over and len(self.ended) + 1 == len(self.names):
            return self._error("begins another sub-task after the last one", f"it named {len(self.names)}")
        if solved != self._solved and "observation" not in answer and not over:
            return self._error(f"has solved '{current}'", "neither the episode ends nor another sub-task begins")
        return None

    def take(self, answer: Mapping[str, Any]) -> bool:
        """Count an answer to `step` that `check` has found right.

        Returns:
            Whether another sub-task begins, with the answer's ``observation``.
        """
        self._steps += answer["steps"]
        over = bool(answer["success"] or answer["done"])
        passed_on = "observation" in answer and not over
        if self.names and (passed_on or over):
            success = answer["solved"] != self._solved
            name = self.names[len(self.ended)]
            self.ended.append(
                SubtaskRecord(name=name, instruction=self._begun_with, steps=self._steps, success=success)
            )
            self._solved, self._steps = list(answer["solved"]), 0
        self.instruction = answer.get("instruction", self.instruction)
        if passed_on:
            self._begun_with = self.instruction
        return passed_on

    def _error(self, what: str, but: str) -> SimulationError:
        return SimulationError(
            f"The simulator {what} in an episode of '{self.task.name}', and {but}.",
            "See `vpolicy_worker.Simulator.step`: a chain names its sub-tasks at the reset, the solved ones in order.",
        )
