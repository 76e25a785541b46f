"""Demonstrations out of demonstrations: where things were in those, and where the hand is to go in new scenes.

A pose is a homogeneous matrix ``(4, 4)`` float64 in the world's frame, in metres; n of them are ``(n, 4, 4)``.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Scene:
    """Where everything is at a moment.

    Args:
        hand: Pose of the end effector.
        frames: Poses of objects, of their parts and of regions, by name.
    """

    hand: np.ndarray
    frames: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """A demonstration of n steps, replayed in the simulator.

    Args:
        name: For messages and provenance.
        task: Its task.
        hand: ``(n, 4, 4)``, before every action.
        targets: ``(n, 4, 4)``, where every action sends the hand.
        gripper: ``(n,)``, what every action asks of the gripper; above 0 it closes.
        frames: ``(n, 4, 4)`` by name, before every action.
    """

    name: str
    task: str
    hand: np.ndarray
    targets: np.ndarray
    gripper: np.ndarray
    frames: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Motion:
    """What the hand does next, one target a control step.

    Args:
        targets: ``(n, 4, 4)``.
        gripper: ``(n,)``.
        noise: ``(n, 6)``, added to translation and rotation of the executed (not the recorded) action, in units of
            the action bounds.
        facts: What is recorded of the episode once this is done.
    """

    targets: np.ndarray
    gripper: np.ndarray
    noise: np.ndarray
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)


class Multiplier(Protocol):
    """Solves tasks in new scenes as its sources did in theirs."""

    def guide(self, task: str, attempt: int, scene: Scene) -> Generator[Motion, Scene, None]:
        """Motions, one after the other; each is answered by the scene that it has led to.

        Args:
            task: Name of the task.
            attempt: Index of the initial state. What is drawn at random is a function of it, so that attempts are
                the same in whatever order they are made.
            scene: The beginning.
        """
        ...
