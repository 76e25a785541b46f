"""What a robot sees and does, with units and conventions, so that a mismatch is found before the first step."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

Orientation = Literal["upright", "mirrored"]


class _Declaration(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Camera(_Declaration):
    """One colour camera; images are uint8 RGB, ``(3, height, width)`` in tensors.

    Args:
        name: Its name.
        height, width: In pixels.
        orientation: ``upright``; or ``mirrored``, left and right exchanged, as a simulator's bottom-up images are after
            a turn by 180 degrees.
    """

    name: str
    height: int
    width: int
    orientation: Orientation = "upright"

    @model_serializer(mode="wrap")
    def _without_the_usual(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Upright cameras are written as they were before there were others: what was recorded keeps its keys."""
        found: dict[str, Any] = handler(self)
        if self.orientation == "upright":
            found.pop("orientation", None)
        return found


class StateSpace(_Declaration):
    """Proprioception: what the robot measures of itself, never the state of objects."""

    names: tuple[str, ...]

    @property
    def dim(self) -> int:
        return len(self.names)


class ActionSpace(_Declaration):
    """One control step.

    Args:
        names: One name per dimension; their number is A.
        low, high: Bounds of every dimension in the simulator's own units.
        control: What the translational (or joint) part means. ``delta_position``, ``absolute_position``: of the hand.
            ``delta_joint``, ``absolute_joint``: of the joints. ``planar_target``: a point in the plane.
            ``velocity``. ``effort``: forces or torques. ``none``: there are no dimensions.
        rotation: How an orientation part is written.
        gripper: Which sign closes the gripper.
        rate: Control frequency in hertz.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    control: Literal[
        "delta_position",
        "absolute_position",
        "delta_joint",
        "absolute_joint",
        "planar_target",
        "velocity",
        "effort",
        "none",
    ]
    rotation: Literal["none", "delta_euler", "delta_axis_angle", "absolute_quaternion", "absolute_rotation_6d"] = "none"
    gripper: Literal["none", "positive_closes", "positive_opens"] = "none"
    rate: float

    @property
    def dim(self) -> int:
        return len(self.names)


NO_ACTIONS = ActionSpace(names=(), low=(), high=(), control="none", rate=0.0)
"""Of videos: nobody has recorded what was done."""


class Spaces(_Declaration):
    """Everything a policy may observe and must produce."""

    cameras: tuple[Camera, ...]
    actions: ActionSpace
    state: StateSpace | None = None

    def camera(self, name: str) -> Camera | None:
        return next((camera for camera in self.cameras if camera.name == name), None)

    def mismatches(self, other: Spaces, ours: str, theirs: str) -> list[str]:
        """Say how ``other`` fails to provide what these spaces declare.

        Args:
            other: The spaces of the other side. It may have more cameras than these.
            ours, theirs: How to call the two sides in the messages.

        Returns:
            One sentence per difference; an empty list when they fit.
        """
        found = []
        for camera in self.cameras:
            twin = other.camera(camera.name)
            if twin is None:
                names = ", ".join(c.name for c in other.cameras) or "none"
                found.append(f"{ours} uses camera '{camera.name}', {theirs} has {names}")
            elif (twin.height, twin.width) != (camera.height, camera.width):
                found.append(
                    f"camera '{camera.name}' is {camera.height}x{camera.width} in {ours} "
                    f"and {twin.height}x{twin.width} in {theirs}"
                )
            elif twin.orientation != camera.orientation:
                found.append(
                    f"camera '{camera.name}' is {camera.orientation} in {ours} and {twin.orientation} in {theirs}"
                )
        if self.actions.dim and not other.actions.dim:
            found.append(_NOTHING_DONE.format(ours=ours, theirs=theirs))
        else:
            found += [text for _, text in _differences(self.actions, other.actions, ours, theirs)]
        if self.state is not None and (other.state is None or other.state.names != self.state.names):
            found.append(
                f"the state is {list(self.state.names)} in {ours} "
                f"and {list(other.state.names) if other.state else 'absent'} in {theirs}"
            )
        return found

    def misfits(self, said: DeclaredSpaces, ours: str, theirs: str) -> list[tuple[str, str]]:
        """Say how what is known of the other side before it is opened fails to fit these spaces.

        Args:
            said: What is known.
            ours, theirs: How to call the two sides in the messages.

        Returns:
            Of every difference the part, such as ``cameras`` or ``actions.rate``, and one sentence.
        """
        found = []
        if said.cameras is not None:
            names = ", ".join(said.cameras)
            found += [
                ("cameras", f"{ours} uses camera '{camera.name}', {theirs} has {names or 'none'}")
                for camera in self.cameras
                if camera.name not in said.cameras
            ]
        turned = [camera for camera in self.cameras if said.orientation not in (None, camera.orientation)]
        found += [
            ("cameras", f"camera '{camera.name}' is {camera.orientation} in {ours} and {said.orientation} in {theirs}")
            for camera in turned[:1]  # of the others it is the same
        ]
        if said.actions is not None and self.actions.dim and not said.actions.dim:
            found.append(("actions", _NOTHING_DONE.format(ours=ours, theirs=theirs)))
        elif said.actions is not None:
            found += [
                (f"actions.{field}", text) for field, text in _differences(self.actions, said.actions, ours, theirs)
            ]
        if self.state is not None and said.state is not None and self.state.names != said.state.names:
            text = f"the state is {list(self.state.names)} in {ours} and {list(said.state.names)} in {theirs}"
            found.append(("state", text))
        return found


_NOTHING_DONE = (
    "{ours} has actions, {theirs} has videos without them: only a stage that trains a video model can learn from "
    "these, as `data` of its own"
)


class DeclaredSpaces(_Declaration):
    """What is known of a dataset's spaces before it is opened; None where only the files say it.

    Args:
        cameras: Their names.
        actions: What they mean.
        state: Names of its dimensions.
        orientation: Of the images of all cameras.
    """

    cameras: tuple[str, ...] | None = None
    actions: ActionSpace | None = None
    state: StateSpace | None = None
    orientation: Orientation | None = None


def _differences(mine: ActionSpace, yours: ActionSpace, ours: str, theirs: str) -> list[tuple[str, str]]:
    """Field and sentence for all in which two action spaces differ."""
    found = [
        (field, f"action {field} is {getattr(mine, field)!r} in {ours} and {getattr(yours, field)!r} in {theirs}")
        for field in ("names", "control", "rotation", "gripper", "rate")
        if getattr(mine, field) != getattr(yours, field)
    ]
    for field in ("low", "high"):
        here, there = getattr(mine, field), getattr(yours, field)
        # Bounds that went through single precision are still the same ones.
        if len(here) == len(there) and not all(map(_close, here, there)):
            found.append((field, f"action {field} is {list(here)} in {ours} and {list(there)} in {theirs}"))
    return found


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)
