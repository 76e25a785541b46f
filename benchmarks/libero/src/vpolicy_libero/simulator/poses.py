"""Absolute actions in ten numbers: position, the first two rows of the rotation matrix, gripper."""

from __future__ import annotations

import numpy as np
from robosuite.utils.transform_utils import mat2quat, quat2axisangle

_SHORTEST = 1e-6


def to_numbers(position: np.ndarray, rotation: np.ndarray, gripper: float) -> np.ndarray:
    """Ten numbers from a position ``(3,)`` in metres, a rotation matrix ``(3, 3)`` and the gripper's number."""
    return np.concatenate([position, rotation[:2].ravel(), [gripper]])


def from_numbers(action: np.ndarray, now: np.ndarray) -> np.ndarray:
    """What robosuite's controller takes: position, axis times angle, gripper.

    Args:
        action: Ten numbers; the six of the rotation are made orthogonal (Zhou et al. 2019, equation 15, by rows).
        now: The hand's rotation matrix ``(3, 3)``, kept where the six numbers span no plane.

    Returns:
        Seven numbers.
    """
    action = np.asarray(action, np.float64)
    quaternion = mat2quat(rotation_of(action, now))
    return np.concatenate([action[:3], quat2axisangle(quaternion), np.clip(action[9:], -1, 1)])


def rotation_of(action: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The rotation matrix ``(3, 3)`` that ten numbers ask for; see `from_numbers`."""
    action = np.asarray(action, np.float64)
    return _orthogonal(action[3:6], action[6:9], now)


def _orthogonal(first: np.ndarray, second: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(first)
    if length < _SHORTEST:
        return otherwise
    first = first / length
    second = second - first @ second * first
    length = np.linalg.norm(second)
    if length < _SHORTEST:
        return otherwise
    second = second / length
    return np.stack([first, second, np.cross(first, second)])
