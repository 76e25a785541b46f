"""What the scripted experts see and how they move: reach a pose, close and open the hand, pick up, put down.

A motion is a generator of actions: it reads the simulation before every action, so that it corrects what noise or a
slipping object changes. Actions are LIBERO's relative ones (`OSC_POSE`): three translations in units of 5 cm, three
rotations (an axis times an angle, in the world) in units of 0.5 rad, and the gripper, -1 open and 1 closed.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Sequence, Union

import numpy as np
from experts_poses import DOWN, about_z, rotation_vector, vector

Motion = Iterator[np.ndarray]
Place = Union[Sequence[float], np.ndarray, Callable[[], np.ndarray]]
"""A point (3,) in metres, or a function that says where it is now."""

OPEN, CLOSED = -1.0, 1.0

METRES, RADIANS = 0.05, 0.5
"""What an action of 1 asks for (robosuite's `controllers/config/osc_pose.json`)."""


class Expert:
    """Solves one task from the simulation's own state, without randomness.

    Args:
        env: robosuite's environment (`libero.libero.envs`), reset and settled.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        self._hand = env.sim.model.body_name2id(env.robots[0].robot_model.eef_name)
        self._motion = self._whole()

    def action(self) -> np.ndarray:
        """The next relative action (7,) float64 in [-1, 1]."""
        return next(self._motion)

    def script(self) -> Motion:
        """The task's motions, one after the other."""
        raise NotImplementedError

    def _whole(self) -> Motion:
        yield from self.script()
        while True:  # whoever asks on sees the hand at rest
            yield from self.wait(OPEN, 10)

    # What is where

    def hand(self) -> np.ndarray:
        """The point between the finger tips (3,), in metres."""
        return self._env.sim.data.site_xpos[self._env.robots[0].eef_site_id].copy()

    def rotation(self) -> np.ndarray:
        """The hand's rotation (3, 3); `experts_poses.DOWN` points down."""
        return self._env.sim.data.body_xmat[self._hand].reshape(3, 3).copy()

    def object(self, name: str) -> np.ndarray:
        """An object's or a fixture's position (3,), in metres."""
        return self._env.sim.data.body_xpos[self._env.obj_body_id[name]].copy()

    def part(self, name: str) -> np.ndarray:
        """The position (3,) of a body of the model, in metres."""
        return self._env.sim.data.body_xpos[self._env.sim.model.body_name2id(name)].copy()

    def region(self, name: str) -> np.ndarray:
        """The position (3,) of a site of the model, in metres."""
        return self._env.sim.data.get_site_xpos(name).copy()

    def joint(self, name: str) -> float:
        """The position of a joint, in radians or metres."""
        return float(self._env.sim.data.get_joint_qpos(name))

    # Motions

    def towards(self, place: np.ndarray, rotation: np.ndarray, gripper: float, speed: float) -> np.ndarray:
        """The action (7,) that moves to a pose, with at most a share `speed` of the fastest translation."""
        shift = (place - self.hand()) / METRES
        largest = np.abs(shift).max()
        if largest > speed:
            shift *= speed / largest
        turn = np.clip(rotation_vector(rotation @ self.rotation().T) / RADIANS, -0.5, 0.5)
        return np.concatenate([shift, turn, [gripper]])

    def reach(
        self,
        place: Place,
        yaw: float = 0.0,
        gripper: float = OPEN,
        near: float = 0.01,
        speed: float = 1.0,
        steps: int = 80,
        rotation: np.ndarray | None = None,
        turned: float = 0.12,
        until: Callable[[], bool] | None = None,
    ) -> Motion:
        """Move to a pose.

        Args:
            place: Where to.
            yaw: Turn of the downward hand about the vertical axis, in radians.
            gripper: `OPEN` or `CLOSED`, all the way.
            near: Distance in metres that is near enough.
            speed: Share of the fastest translation.
            steps: Most steps; the motion also ends after these.
            rotation: The hand's rotation instead of a downward one.
            turned: Angle in radians that is near enough.
            until: Asked before every step; the motion also ends when this is true.
        """
        wanted = about_z(yaw) @ DOWN if rotation is None else rotation
        for _ in range(steps):
            point = np.asarray(place() if callable(place) else place)
            angle = np.linalg.norm(rotation_vector(wanted @ self.rotation().T))
            if np.linalg.norm(point - self.hand()) < near and angle < turned:
                return
            if until is not None and until():
                return
            yield self.towards(point, wanted, gripper, speed)

    def wait(self, gripper: float, steps: int) -> Motion:
        """Stay, which is also how the hand closes and opens."""
        place, rotation = self.hand(), self.rotation()
        for _ in range(steps):
            yield self.towards(place, rotation, gripper, 1.0)

    def rise(self, height: float, yaw: float = 0.0, gripper: float = OPEN, speed: float = 1.0) -> Motion:
        """Move up by a height in metres."""
        yield from self.reach(self.hand() + vector(0.0, 0.0, height), yaw, gripper, near=0.025, speed=speed)

    def pick(
        self,
        name: str,
        grasp: Sequence[float] = (0.0, 0.0, 0.0),
        yaw: float = 0.0,
        above: float = 0.10,
        lift: float = 0.15,
        close: int = 8,
        tries: int = 3,
    ) -> Motion:
        """Pick an object up, once more if it slipped.

        Args:
            name: The object.
            grasp: Where to grasp it, relative to its position and in the world's directions, in metres.
            yaw: Turn of the hand about the vertical axis, in radians.
            above: Height in metres over the grasp from which the hand comes straight down.
            lift: Height in metres to which it is lifted.
            close: Steps that closing takes (a thin rim takes longer than a box).
            tries: Most tries.
        """
        for _ in range(tries):
            yield from self.reach(lambda: self.object(name) + grasp + vector(0.0, 0.0, above), yaw, near=0.02)
            yield from self.reach(lambda: self.object(name) + grasp, yaw, near=0.008, speed=0.6, steps=40)
            yield from self.wait(CLOSED, close)
            lying = self.object(name)[2]
            yield from self.rise(lift, yaw, CLOSED)
            if self.object(name)[2] > lying + 0.5 * lift:
                return
            yield from self.wait(OPEN, 4)

    def put(
        self,
        name: str,
        place: Place,
        yaw: float = 0.0,
        above: float = 0.10,
        near: float = 0.008,
        retreat: float = 0.12,
        open_steps: int = 6,
    ) -> Motion:
        """Put the object that the hand holds down.

        Args:
            name: The object.
            place: Where the object's own position shall be.
            yaw: Turn of the hand about the vertical axis, in radians.
            above: Height in metres over the place from which it is lowered.
            near: Distance in metres that is near enough for letting go.
            retreat: Height in metres to which the hand rises afterwards.
            open_steps: Steps that letting go takes.
        """
        point = np.asarray(place() if callable(place) else place)
        held = self.hand() - self.object(name)
        yield from self.reach(point + held + vector(0.0, 0.0, above), yaw, CLOSED, near=0.015)
        yield from self.reach(point + held, yaw, CLOSED, near, speed=0.5, steps=40)
        yield from self.wait(OPEN, open_steps)
        yield from self.rise(retreat, yaw)
