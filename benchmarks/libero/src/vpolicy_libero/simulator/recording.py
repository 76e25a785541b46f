"""What a demonstration records of every step before its action."""

from __future__ import annotations

from typing import Callable

import numpy as np
from scene import Scene, Sight

KEPT_AFTER_SUCCESS = 10
"""Steps that a demonstration goes on after its first success: the outcome is seen, and chunks that begin shortly
before it are whole."""

ARRAYS = {
    "robot_states": "robot_states",
    **{f"obs/{name}": name for name in ("ee_pos", "ee_ori", "ee_states", "gripper_states", "joint_states")},
}
"""Keys of LIBERO's files, and what they hold of `Scene.measured`."""


class Recording:
    """The steps of one demonstration.

    Args:
        task: Its task.
        scene: Where it happens, begun.
        most: Steps after which it has failed.
        declared: A relative action ``(7,)`` in the benchmark's action space.
    """

    def __init__(self, task: str, scene: Scene, most: int, declared: Callable[[np.ndarray], np.ndarray]) -> None:
        self.task, self.scene, self.most, self._declared = task, scene, most, declared
        self.initial_state = scene.hash()
        self.success = False
        self.sights: list[Sight] = []
        self.states: list[np.ndarray] = []
        self.measured: list[dict[str, np.ndarray]] = []
        self.actions: list[np.ndarray] = []
        self._kept = KEPT_AFTER_SUCCESS

    def over(self) -> bool:
        """Whether it has succeeded and has been seen to, or has failed."""
        return len(self.actions) >= self.most or not self._kept

    def take(self, action: np.ndarray, noise: np.ndarray) -> None:
        """Record what is there and a relative action ``(7,)``, and execute it with noise ``(7,)``."""
        self.states.append(self.scene.flat_state())
        self.sights.append(self.scene.sight)
        self.measured.append(self.scene.measured())
        action = np.clip(action, -1, 1).astype(np.float32)
        self.actions.append(self._declared(action))
        solved = self.scene.step(np.clip(action + noise, -1, 1).astype(np.float64))
        self.success = solved or self.success
        self._kept -= self.success
