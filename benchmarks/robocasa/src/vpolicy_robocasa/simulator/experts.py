"""Scripted experts for some of RoboCasa's tasks, which look at the simulation's own state.

A motion is a generator of actions: it reads the simulation before every action, so that it corrects what noise or a
slipping hand changes. Places and directions are in the frame of the robot's base (x forward, y left, z up, metres), in
which the controller takes its actions: three translations in units of 5 cm, three rotations (an axis times an angle) in
units of 0.5 rad, and the gripper, -1 open and 1 closed. The base stands still.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping, Union

import mujoco
import numpy as np

Motion = Iterator[np.ndarray]
Place = Union[np.ndarray, Callable[[], np.ndarray]]
"""A point (3,), or a function that says where it is now."""

OPEN, CLOSED = -1.0, 1.0
METRES, RADIANS = 0.05, 0.5
"""What an action of 1 asks for."""
REST_STEPS = 3
"""Steps before the first motion, in which the arm settles."""
FORWARD = 1.0
"""Radians by which the fingers lean forward where wall cabinets leave no room for an upright hand."""


def vector(x: float, y: float, z: float) -> np.ndarray:
    """A vector (3,)."""
    return np.array([x, y, z])


def leaning(pitch: float) -> np.ndarray:
    """The hand's rotation (3, 3): fingers down at 0, forward at a quarter turn; they open along the base's y axis."""
    c, s = np.cos(pitch), np.sin(pitch)
    return np.array([[c, 0.0, s], [0.0, -1.0, 0.0], [s, 0.0, -c]])


def rolled(angle: float) -> np.ndarray:
    """A turn (3, 3) of the hand about its fingers, in radians: a factor on the right."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """The axis times the angle (3,), in radians, of a rotation matrix (3, 3) of less than half a turn."""
    skew = vector(rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1])
    length = np.linalg.norm(skew)
    angle = np.arctan2(length, np.trace(rotation) - 1.0)
    return skew / 2.0 if length < 1e-6 else skew * angle / length


class Expert:
    """Solves one task, without randomness.

    Args:
        scene: `scene.Scene`, reset.
    """

    def __init__(self, scene: Any) -> None:
        self.scene, self.env = scene, scene.env
        self.model, self.data = scene.model, scene.data
        self._base, self._hand = scene._base, scene._hand
        self._tip = scene.robot.eef_site_id["right"]
        self._upright = self.rotation()
        self._motion = self._whole()

    def action(self) -> np.ndarray:
        """The next action (7,) float64 in [-1, 1]."""
        return next(self._motion)

    def script(self) -> Motion:
        """The task's motions, one after the other."""
        raise NotImplementedError

    def _whole(self) -> Motion:
        yield from self.wait(REST_STEPS)
        yield from self.script()
        while True:  # whoever asks on sees the hand at rest
            yield from self.wait(10)

    # What is where

    def frame(self) -> np.ndarray:
        """The base's rotation (3, 3) in the world."""
        return self.data.site_xmat[self._base].reshape(3, 3)

    def place(self, point: np.ndarray) -> np.ndarray:
        """A point (3,) of the world, seen from the base."""
        return self.frame().T @ (np.asarray(point) - self.data.site_xpos[self._base])

    def tip(self) -> np.ndarray:
        """The point between the finger tips (3,)."""
        return self.place(self.data.site_xpos[self._tip])

    def rotation(self) -> np.ndarray:
        """The hand's rotation (3, 3)."""
        return self.frame().T @ self.data.xmat[self._hand].reshape(3, 3)

    def geom(self, name: str) -> np.ndarray:
        """The centre (3,) of a geom."""
        return self.place(self.data.geom_xpos[self.env.sim.model.geom_name2id(name)])

    # Motions

    def towards(self, place: np.ndarray, rotation: np.ndarray, gripper: float, speed: float) -> np.ndarray:
        """The action (7,) that moves to a pose, with at most a share `speed` of the fastest translation."""
        shift = (place - self.tip()) / METRES
        largest = np.abs(shift).max()
        if largest > speed:
            shift *= speed / largest
        turn = np.clip(rotation_vector(rotation @ self.rotation().T) / RADIANS, -0.5, 0.5)
        return np.concatenate([shift, turn, [gripper]])

    def reach(
        self,
        place: Place,
        rotation: np.ndarray | None = None,
        near: float = 0.02,
        speed: float = 1.0,
        steps: int = 80,
        turned: float = 0.2,
        until: Callable[[], bool] | None = None,
        gripper: float = CLOSED,
    ) -> Motion:
        """Move to a pose; the motion also ends after `steps`, or when `until` is true.

        Args:
            place: Where to.
            rotation: The hand's; None: as at the beginning of the episode.
            near: Distance in metres that is near enough.
            speed: Share of the fastest translation.
            steps: Most steps.
            turned: Angle in radians that is near enough.
            until: Asked before every step.
            gripper: `OPEN` or `CLOSED`.
        """
        wanted = self._upright if rotation is None else rotation
        for _ in range(steps):
            point = place() if callable(place) else place
            angle = np.linalg.norm(rotation_vector(wanted @ self.rotation().T))
            if (np.linalg.norm(point - self.tip()) < near and angle < turned) or (until is not None and until()):
                return
            yield self.towards(point, wanted, gripper, speed)

    def wait(self, steps: int, gripper: float = CLOSED) -> Motion:
        """Stay."""
        place, rotation = self.tip(), self.rotation()
        for _ in range(steps):
            yield self.towards(place, rotation, gripper, 1.0)


class PressButton(Expert):
    """Approach a button along its normal with leaning closed fingers, press until it says so, and retreat.

    Success needs the hand 15 cm away from the button.
    """

    def button(self) -> str:
        """The name of the geom."""
        raise NotImplementedError

    def pressed(self) -> bool:
        raise NotImplementedError

    def script(self) -> Motion:
        name = self.button()
        at, normal = self.geom(name), self.normal(name)
        above = normal[2] > 0.7
        lean = leaning(FORWARD)
        before = vector(max(min(at[0] - 0.2, self.tip()[0]), 0.12), at[1], at[2] + (0.08 if above else 0.02))
        yield from self.reach(before, lean, near=0.04)
        yield from self.reach(at + (0.07 if above else 0.09) * normal, lean)
        yield from self.reach(at - 0.04 * normal, lean, near=0.001, speed=0.4, steps=60, until=self.pressed)
        if above:
            yield from self.reach(at + vector(-0.22, 0.0, 0.06), lean)
        else:
            yield from self.reach(at + 0.2 * normal - vector(0.0, 0.0, 0.08), lean)
            yield from self.reach(vector(0.1, 0.0, 0.6))

    def normal(self, name: str) -> np.ndarray:
        """The direction (3,) in which a button sticks out: of its thinnest side, towards the robot or upwards."""
        geom = self.env.sim.model.geom_name2id(name)
        axes = self.data.geom_xmat[geom].reshape(3, 3)
        round_ = self.model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_CYLINDER
        normal = self.frame().T @ axes[:, 2 if round_ else int(np.argmin(self.model.geom_size[geom]))]
        return normal if normal @ vector(-1.0, 0.0, 1.0) > 0 else -normal


class CoffeePressButton(PressButton):
    """The coffee machine's start button."""

    def button(self) -> str:
        return f"{self.env.coffee_machine.name}_start_button"

    def pressed(self) -> bool:
        return bool(self.env.coffee_machine.get_state()["turned_on"])


class TurnOnMicrowave(PressButton):
    """The microwave's start button."""

    def button(self) -> str:
        return f"{self.env.microwave.name}_start_button"

    def pressed(self) -> bool:
        return bool(self.env.microwave.get_state()["turned_on"])


class TurnOffMicrowave(PressButton):
    """The microwave's stop button, beside the handle of its door."""

    def button(self) -> str:
        return f"{self.env.microwave.name}_stop_button"

    def pressed(self) -> bool:
        return not self.env.microwave.get_state()["turned_on"]


class TurnOffSinkFaucet(Expert):
    """Push the faucet's lever back, from the side where nothing else is; one that comes back towards the robot is taken
    between the fingers and pulled."""

    def script(self) -> Motion:
        at, way = self.lever()
        if way[0] < -0.5:
            upright = leaning(0.2)
            yield from self.reach(at + vector(0.0, 0.0, 0.12), upright, near=0.03, gripper=OPEN)
            yield from self.reach(at, upright, near=0.01, speed=0.6, steps=40, gripper=OPEN)
            yield from self.wait(8)
            yield from self.reach(self.beyond, upright, near=0.001, speed=0.5, steps=120)
        else:  # past the spout's end with the narrow side of the hand
            aside, narrow = vector(0.0, -np.sign(way[1]), 0.0), leaning(FORWARD) @ rolled(np.pi / 2)
            yield from self.reach(at + vector(-0.35, 0.0, 0.10) + 0.16 * aside, narrow, near=0.04)
            yield from self.reach(at + vector(-0.08, 0.0, 0.02) + 0.10 * aside, narrow, near=0.03)
            yield from self.reach(at + 0.06 * aside, narrow, near=0.012, speed=0.6, steps=40)
            yield from self.reach(self.beyond, narrow, near=0.001, speed=0.5, steps=120)

    def lever(self) -> tuple[np.ndarray, np.ndarray]:
        """A point of the lever above its middle, and the level direction (3,) to push it in."""
        prefix = self.env.sink.naming_prefix
        joint = self.env.sim.model.joint_name2id(f"{prefix}handle_joint")
        geom = self.env.sim.model.geom_name2id(f"{prefix}handle_main")
        middle, anchor = self.data.geom_xpos[geom], self.data.xanchor[joint]
        way = self.frame().T @ np.cross(self.data.xaxis[joint], anchor - middle) * vector(1.0, 1.0, 0.0)
        return self.place(middle + 0.1 * (middle - anchor)), way / np.linalg.norm(way)

    def beyond(self) -> np.ndarray:
        """A point behind the lever, to which the fingers never come."""
        at, way = self.lever()
        return at + 0.06 * way


class TurnSinkSpout(Expert):
    """Push the end of the spout to the side that the sentence names."""

    CLEAR = 0.11
    """Metres between the fingers and the spout before the push."""

    def script(self) -> Motion:
        lean = leaning(FORWARD)
        at, way = self.end()
        before = at - self.CLEAR * way
        yield from self.reach(before + vector(-0.12, 0.0, 0.12), lean, near=0.04, steps=40)
        yield from self.reach(before, lean, near=0.025, speed=0.6, steps=40)
        yield from self.reach(self.beyond, lean, near=0.001, speed=0.5, steps=120)

    def end(self) -> tuple[np.ndarray, np.ndarray]:
        """Where to push and in which direction (3,): the spout's solid part that is farthest from the axis."""
        joint = self.env.sim.model.joint_name2id(f"{self.env.sink.naming_prefix}spout_joint")
        axis, anchor = self.data.xaxis[joint], self.data.xanchor[joint]
        solid = self.model.geom_contype | self.model.geom_conaffinity
        parts = np.flatnonzero((self.model.geom_bodyid == self.model.jnt_bodyid[joint]) & (solid != 0))
        arms = np.cross(axis, self.data.geom_xpos[parts] - anchor)
        farthest = int(np.argmax(np.linalg.norm(arms, axis=1)))
        way = self.frame().T @ arms[farthest] * (1.0 if self.env.behavior == "right" else -1.0)
        return self.place(self.data.geom_xpos[parts[farthest]]), way / np.linalg.norm(way)

    def beyond(self) -> np.ndarray:
        """A point behind the spout, to which the fingers never come."""
        at, way = self.end()
        return at + 0.08 * way


class CloseDrawer(Expert):
    """Push the handle, which is beside the robot, with the closed fingers."""

    def script(self) -> Motion:
        lean = leaning(0.3)
        yield from self.reach(vector(0.05, self.handle()[1] * 0.6, 0.5), lean, near=0.06, turned=0.4)
        yield from self.reach(self.beside_handle(-0.10, 0.2), lean, near=0.03, turned=0.3)
        yield from self.reach(self.beside_handle(-0.09, -0.02), lean, near=0.03, turned=0.3)
        yield from self.reach(self.beside_handle(0.04, -0.02), lean, near=0.001, speed=0.8, steps=200)

    def handle(self) -> np.ndarray:
        """The middle (3,) of the handle."""
        return self.geom(f"{self.env.drawer.name}_door_handle_handle")

    def beside_handle(self, x: float, z: float) -> Place:
        """A point, `x` behind and `z` above the handle's middle, in metres, wherever that is by then."""
        return lambda: self.handle() + vector(x, 0.0, z)


EXPERTS: Mapping[str, type[Expert]] = {
    "CoffeePressButton": CoffeePressButton,
    "TurnOnMicrowave": TurnOnMicrowave,
    "TurnOffMicrowave": TurnOffMicrowave,
    "TurnOffSinkFaucet": TurnOffSinkFaucet,
    "TurnSinkSpout": TurnSinkSpout,
    "CloseDrawer": CloseDrawer,
}
