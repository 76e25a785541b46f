"""Episodes that are chains of sub-tasks, such as CALVIN's: one after the other, with a sentence and a limit each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vpolicy_worker.stepwise import StepwiseSimulator


class Subtask(NamedTuple):
    """A link of a chain.

    Args:
        name: Of the sub-task.
        instruction: Its sentence.
        max_steps: Steps within which it must be solved.
    """

    name: str
    instruction: str
    max_steps: int


class ChainSimulator(StepwiseSimulator):
    """A simulator of which an episode may be a chain of sub-tasks: the scene goes on where one of them ends.

    The episode succeeds with the last sub-task, and is over with the first that is not solved within its own limit.
    `reset` calls `begin_chain` instead of `begin` and merges what it returns into its answer; `advance` says whether
    the current `subtask` is solved. An episode that was begun by `begin` is a single task as in `StepwiseSimulator`.
    """

    chain: tuple[Subtask, ...] = ()
    """The sub-tasks of the episode; empty for a single task."""
    solved: tuple[str, ...] = ()
    """Names of those that were solved."""
    _spent: int = 0  # steps since the current sub-task began
    _passed_on: bool = False  # whether a sub-task was solved in this chunk and another one follows

    @property
    def subtask(self) -> Subtask:
        """The current one, the last one at the end."""
        return self.chain[min(len(self.solved), len(self.chain) - 1)]

    def begin(self) -> None:
        super().begin()
        self.chain, self.solved, self._spent, self._passed_on = (), (), 0, False

    def begin_chain(self, chain: list[Subtask]) -> dict[str, Any]:
        """Begin a chain.

        Returns:
            What the answer to `reset` carries besides: ``instruction`` and ``subtasks``.
        """
        self.begin()
        self.chain = tuple(chain)
        return {"instruction": self.subtask.instruction, "subtasks": [one.name for one in chain]}

    def take(self, action: np.ndarray) -> None:
        if not self.chain:
            super().take(action)
            return
        self.steps += 1
        self._spent += 1
        if self.advance(action):
            self.solved += (self.subtask.name,)
            self.success = len(self.solved) == len(self.chain)
            self._passed_on = not self.success
            self._spent = self._spent if self.success else 0

    def finished(self) -> bool:
        return super().finished() or (bool(self.chain) and self._spent >= self.subtask.max_steps)

    def halts(self) -> bool:
        return self._passed_on or self.finished()

    def score(self) -> float:
        """The number of solved sub-tasks; success where there are none."""
        return float(len(self.solved)) if self.chain else super().score()

    def step(self, actions: np.ndarray, frames: list[int]) -> dict[str, Any]:
        """See `Simulator.step`: a chunk ends where a sub-task was solved."""
        self._passed_on = False
        answer = super().step(actions, frames)
        if self.chain:
            answer["solved"] = list(self.solved)
        if self._passed_on and not self.finished():
            seen = answer["observations"].get(answer["steps"])
            answer["observation"] = self.seen() if seen is None else seen
            answer["instruction"] = self.subtask.instruction
        return answer
