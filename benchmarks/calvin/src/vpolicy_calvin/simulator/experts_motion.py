"""How the scripted experts move: from pose to pose with relative actions, reading the table before each.

Actions move the controller's target, not the hand: motions steer the target, and wait for the hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Mapping, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from playtable import PlayTable

Motion = Iterator[np.ndarray]

OPEN, CLOSED = 1.0, -1.0
METRES, RADIANS = 0.02, 0.05
"""What an action of 1 adds to the target (``max_rel_pos`` and ``max_rel_orn`` of ``robot.py``)."""
YAW = np.pi / 2
"""The hand's yaw when its fingers close along the table's long side."""
HIGH = 0.58
"""Height in metres at which the hand passes over blocks and handles."""
_REACHED, _TURNED = 1e-4, 1e-3  # metres and radians from a pose at which the target counts as there
_NEAR, _PATIENCE = 0.004, 12  # metres between hand and target, and steps that are waited for it
_LONGEST = 150  # steps to one pose
_HOLDING, _OPENED = 0.01, 0.075  # metres between fingers that may hold something, and between open ones


class Pose(NamedTuple):
    """Where the hand shall be.

    Args:
        x, y, z: Of the point between the finger tips, in metres.
        yaw: About the vertical, in radians.
        pitch: Tilt of the hand out of the vertical, in radians.
    """

    x: float
    y: float
    z: float
    yaw: float = YAW
    pitch: float = 0.0


def wrapped(angle: np.ndarray) -> np.ndarray:
    """The same angles between -pi and pi."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def near(yaw: float) -> float:
    """The same yaw at most half a turn from `YAW`."""
    return float(YAW + wrapped(yaw - YAW))


class Hand:
    """Moves the hand of a table.

    Args:
        table: The table, in the state from which the task begins.
    """

    def __init__(self, table: PlayTable) -> None:
        self.table = table
        self.gripper = OPEN

    def scene(self) -> Mapping[str, Any]:
        """What is where now; see ``calvin_env``'s ``PlayTableScene.get_info``."""
        return self.table.info()["scene_info"]

    def joint(self, name: str) -> float:
        """Position of a door or drawer, in metres."""
        return float(self.scene()["doors"][name]["current_state"])

    def move(self, pose: Pose, speed: float = 0.6, wait: bool = False) -> Motion:
        """Move the target to a pose, at most with a share `speed` of the fastest translation.

        Args:
            pose: Where to.
            speed: Of 2 cm a step.
            wait: Whether the hand has to be there, too; it lags some steps behind.
        """
        place, rotation = np.array(pose[:3]), np.array([np.pi, pose.pitch, pose.yaw])
        for _ in range(_LONGEST):
            position, angles = self.table.target()
            shift, turn = place - position, wrapped(rotation - angles)
            turn[2] = near(pose.yaw) - near(angles[2])  # the other way round the wrist would reach its limit
            if np.linalg.norm(shift) < _REACHED and np.abs(turn).max() < _TURNED:
                break
            shift, turn = shift / METRES, turn / RADIANS
            largest = float(np.abs(shift).max())
            last = largest <= speed and np.abs(turn).max() <= 1
            yield np.array([*(shift * min(1.0, speed / max(largest, 1e-9))), *np.clip(turn, -1, 1), self.gripper])
            if last:  # noise on the actions may keep the target from ever being there exactly
                break
        for _ in range(_PATIENCE if wait else 0):
            hand = self.table.measured()[0][:3]
            if np.linalg.norm(hand - place) < _NEAR:
                break
            yield self.still()

    def rest(self, steps: int) -> Motion:
        """Stay."""
        for _ in range(steps):
            yield self.still()

    def grip(self, gripper: float, steps: int) -> Motion:
        """Open or close the hand, and give it time."""
        self.gripper = gripper
        yield from self.rest(steps)

    def rise(self) -> Motion:
        """Let go, and go up from wherever the hand is, so that nothing is swept away on the way to the next place."""
        wanted, measured = self.gripper, self.table.measured()[0]
        if measured[6] > _HOLDING:
            # A block may still be between the fingers: rotating counts before it is put down. It must not come along.
            yield from self.grip(OPEN, 6 if measured[6] < _OPENED else 0)
        (x, y, z), (_, pitch, yaw) = measured[:3], self.table.target()[1]
        if z < HIGH - 0.01:
            # From the measured place: a target that contact has left behind would pull the hand sideways.
            yield from self.move(Pose(float(x), float(y), HIGH, float(yaw), float(pitch)), speed=0.8)
        self.gripper = wanted

    def over(self, x: float, y: float, yaw: float = YAW) -> Motion:
        """Go to above a place."""
        yield from self.rise()
        yield from self.move(Pose(x, y, HIGH, yaw), speed=0.8)

    def still(self) -> np.ndarray:
        """The action that changes nothing."""
        return np.array([0, 0, 0, 0, 0, 0, self.gripper], np.float64)
