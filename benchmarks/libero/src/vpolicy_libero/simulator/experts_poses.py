"""Rotations for the scripted experts. numpy only, no simulator."""

from __future__ import annotations

import numpy as np

DOWN = np.diag([1.0, -1.0, -1.0])
"""The hand's rotation with the fingers pointing down; they open along the world's y axis."""


def vector(x: float, y: float, z: float) -> np.ndarray:
    """A vector (3,)."""
    return np.array([x, y, z])


def about_x(angle: float) -> np.ndarray:
    """The rotation (3, 3) about the x axis by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def about_z(angle: float) -> np.ndarray:
    """The rotation (3, 3) about the z axis by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """The axis times the angle (3,), in radians, of a rotation matrix (3, 3); the angle is at most pi."""
    skew = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    angle = np.arctan2(np.linalg.norm(skew), np.trace(rotation) - 1.0)
    if angle < 1e-6:
        return skew / 2.0
    if angle < np.pi - 1e-4:
        return skew * angle / np.linalg.norm(skew)
    # Half a turn: the axis is in the symmetric part, R = 2 a a' - 1.
    columns = (rotation + np.eye(3)) / 2.0
    axis = columns[:, int(np.argmax(np.diag(columns)))]
    axis = axis / np.linalg.norm(axis)
    return axis * angle * (-1.0 if axis @ skew < 0 else 1.0)
