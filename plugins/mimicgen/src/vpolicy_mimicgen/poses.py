"""Algebra of poses, homogeneous matrices ``(4, 4)`` in metres."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

METRES_PER_RADIAN = 0.1
"""What a turn counts for in a distance: about the reach of a gripper."""


def moved_along(poses: np.ndarray, then: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Poses ``(n, 4, 4)`` that lie to an object as others did.

    Args:
        poses: The others ``(n, 4, 4)``.
        then: The object's pose beside them.
        now: Its pose.
    """
    return now @ np.linalg.inv(then) @ poses


def between(first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
    """Poses ``(steps, 4, 4)`` on the straight way from one to another, without the two themselves."""
    shares = np.arange(1, steps + 1) / (steps + 1)
    found = np.tile(np.eye(4), (steps, 1, 1))
    found[:, :3, 3] = first[:3, 3] + shares[:, None] * (last[:3, 3] - first[:3, 3])
    turns = Rotation.from_matrix(np.stack([first[:3, :3], last[:3, :3]]))
    found[:, :3, :3] = Slerp([0.0, 1.0], turns)(shares).as_matrix()
    return found


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """How far two poses are apart in metres, a turn counted as `METRES_PER_RADIAN`."""
    turn = Rotation.from_matrix(one[:3, :3].T @ other[:3, :3]).magnitude()
    return float(np.linalg.norm(one[:3, 3] - other[:3, 3]) + METRES_PER_RADIAN * turn)
