"""Executing chunks of actions, for simulators that take one action at a time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from vpolicy_worker.simulator import Simulator


class StepwiseSimulator(Simulator):
    """A simulator of which an episode is one task, whose success at any step counts and ends it.

    A subclass sets ``max_steps`` and says what one action does (`advance`) and what is seen (`observe`); it calls
    `begin` when an episode or a demonstration begins, and `take` for every action outside `step`. One whose episodes
    end otherwise overrides `finished`, one that grades more finely than success `score`.
    """

    max_steps: int
    """Steps after which an episode has failed."""
    steps: int = 0
    """Actions executed since the episode began."""
    success: bool = False
    """Whether the task was solved after any of them."""

    def advance(self, action: np.ndarray) -> bool:
        """Execute one action ``(A,)``, and return whether the task is solved now."""
        raise NotImplementedError

    def observe(self, images: bool = True) -> dict[str, Any]:
        """What is seen now, an observation as `Simulator` describes it; its ``images`` are empty without them."""
        raise NotImplementedError

    def begin(self) -> None:
        """Count steps and success again."""
        self.steps, self.success = 0, False

    def take(self, action: np.ndarray) -> None:
        """Execute and count one action ``(A,)``."""
        self.steps += 1
        self.success = bool(self.advance(action)) or self.success

    def finished(self) -> bool:
        """Whether the episode is over."""
        return self.success or self.steps >= self.max_steps

    def score(self) -> float:
        """How well the episode has gone so far; the higher the better."""
        return float(self.success)

    def halts(self) -> bool:
        """Whether a chunk ends here, its other actions not executed."""
        return self.finished()

    def seen(self) -> dict[str, Any]:
        """What is seen now with images; the seconds that it takes count as rendering."""
        before = time.perf_counter()
        observation = self.observe()
        self.rendering_seconds += time.perf_counter() - before
        return observation

    def step(self, actions: np.ndarray, frames: list[int]) -> dict[str, Any]:
        """See `Simulator.step`.

        Raises:
            ValueError: An action is not finite; nothing was executed.
        """
        if not np.isfinite(actions).all():
            raise ValueError("actions are not finite")
        observations: dict[int, Any] = {}
        executed = 0
        for action in actions:
            if self.halts():
                break
            self.take(action)
            executed += 1
            if executed in frames:
                observations[executed] = self.seen()
        return {
            "observations": observations,
            "steps": executed,
            "success": self.success,
            "score": self.score(),
            "done": self.finished(),
        }
