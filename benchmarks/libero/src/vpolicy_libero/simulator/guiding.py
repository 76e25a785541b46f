"""Where things are, and what sends the hand to a pose: for demonstrations that are guided from outside."""

from __future__ import annotations

import numpy as np
from experts_motion import METRES, RADIANS
from experts_poses import rotation_vector
from scene import Scene

_ROBOT = ("robot0", "gripper0", "mount0", "fixed_mount0", "world")
"""Beginnings of names that are no objects'."""


def hand(scene: Scene) -> np.ndarray:
    """The pose ``(4, 4)`` of the point between the finger tips."""
    return _pose(scene.data.site_xpos[scene.robot.eef_site_id], scene.rotation())


def frames(scene: Scene) -> dict[str, np.ndarray]:
    """Poses ``(4, 4)`` by name: LIBERO's objects and fixtures, other bodies of the model, its sites."""
    return {name: _pose(place, turn) for name, (place, turn) in _named(scene).items()}


def towards(scene: Scene, target: np.ndarray) -> np.ndarray:
    """Translation and rotation ``(6,)`` of the relative action that sends the hand to a pose ``(4, 4)``."""
    shift = (target[:3, 3] - scene.data.site_xpos[scene.robot.eef_site_id]) / METRES
    return np.concatenate([shift, rotation_vector(target[:3, :3] @ scene.rotation().T) / RADIANS])


def _named(scene: Scene) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    model, data = scene.model, scene.data
    objects = {name: scene.env.obj_body_id[name] for name in scene.env.obj_body_id}
    bodies = {model.body(number).name: number for number in range(model.nbody)}
    sites = {model.site(number).name: number for number in range(model.nsite)}
    found = {name: (data.site_xpos[number], data.site_xmat[number]) for name, number in sites.items()}
    found.update({name: (data.xpos[number], data.xmat[number]) for name, number in {**bodies, **objects}.items()})
    return {name: pose for name, pose in sorted(found.items()) if name and not name.startswith(_ROBOT)}


def _pose(place: np.ndarray, turn: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3], pose[:3, :3] = place, turn.reshape(3, 3)
    return pose
