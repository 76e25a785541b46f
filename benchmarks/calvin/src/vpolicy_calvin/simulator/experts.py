"""Scripted experts: CALVIN's tasks solved from the simulation's own state. Places are relative to the table's parts,
which lie elsewhere on every table."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Callable

import numpy as np
from experts_motion import CLOSED, OPEN, YAW, Hand, Motion, Pose, near

if TYPE_CHECKING:
    from playtable import PlayTable


_COLORS = ("red", "blue", "pink")


class Expert:
    """Solves one task, without randomness.

    Args:
        table: In the state from which the task begins.
        task: Its name, one of `SCRIPTS`.
    """

    def __init__(self, table: PlayTable, task: str) -> None:
        self._hand = Hand(table)
        self._motion = SCRIPTS[task](self._hand)
        self.finished = False
        """Whether nothing is left to be done."""

    def action(self) -> np.ndarray:
        """The next relative action (7,) float64 in [-1, 1]; once the script has ended, one that changes nothing."""
        for action in self._motion:
            return action
        self.finished = True
        return self._hand.still()


def press_button(hand: Hand) -> Motion:
    """Press the button, which toggles the LED."""
    hand.gripper = CLOSED
    x, y, _ = hand.table.link("button_link")
    yield from hand.over(x, y)
    yield from hand.move(Pose(x, y, 0.50))
    yield from hand.move(Pose(x, y, 0.455), speed=0.3)
    yield from hand.rest(4)
    yield from hand.move(Pose(x, y, 0.56))


def switch_on(hand: Hand) -> Motion:
    """Push the switch's handle up from below, along its slope."""
    hand.gripper = CLOSED
    x = hand.table.link("switch_link")[0]
    yield from hand.over(x, -0.12)
    yield from hand.move(Pose(x, -0.10, 0.485))
    yield from hand.move(Pose(x, 0.012, 0.485), speed=0.4)
    yield from hand.move(Pose(x, 0.062, 0.60), speed=0.3)
    yield from hand.rest(4)
    yield from hand.move(Pose(x, -0.13, 0.58))


def switch_off(hand: Hand) -> Motion:
    """Push the switch's handle down from above, with a tilted hand: fingers that point down do not reach so high."""
    hand.gripper = CLOSED
    x, tilt = hand.table.link("switch_link")[0], -0.7
    yield from hand.rise()
    for place, speed in (
        ((-0.12, 0.62), 0.6),
        ((-0.03, 0.68), 0.6),
        ((0.05, 0.66), 0.4),
        ((0.06, 0.635), 0.3),
        ((-0.01, 0.52), 0.25),
    ):
        yield from hand.move(Pose(x, *place, pitch=tilt), speed)
    yield from hand.rest(4)
    yield from hand.move(Pose(x, -0.13, 0.56, pitch=tilt))


_BAR, _BAR_HEIGHT = 0.25, 0.365
"""How far before the drawer's origin its handle lies, and how high, in metres."""


def open_drawer(hand: Hand) -> Motion:
    """Take the drawer by its handle and pull."""
    hand.gripper = OPEN
    x, y, _ = hand.table.link("drawer_link")
    bar, pulled = y - _BAR, hand.table.joint_limit("base__drawer") - hand.joint("base__drawer")
    yield from hand.over(x, bar - 0.06, yaw=0.0)
    yield from hand.move(Pose(x, bar, 0.46, 0.0))
    yield from hand.move(Pose(x, bar, _BAR_HEIGHT, 0.0))
    yield from hand.grip(CLOSED, 8)
    yield from hand.move(Pose(x, bar - pulled + 0.01, _BAR_HEIGHT, 0.0), speed=0.35)
    yield from hand.grip(OPEN, 4)
    yield from hand.move(Pose(x, bar - pulled + 0.01, 0.50, 0.0))


def close_drawer(hand: Hand) -> Motion:
    """Push the drawer's handle from the front."""
    hand.gripper = CLOSED
    x, y, _ = hand.table.link("drawer_link")
    bar, pushed = y - _BAR, hand.joint("base__drawer")
    yield from hand.over(x, bar - 0.10)
    yield from hand.move(Pose(x, bar - 0.10, 0.36))
    yield from hand.move(Pose(x, bar + pushed - 0.015, 0.36), speed=0.35)
    yield from hand.rest(4)
    yield from hand.move(Pose(x, bar + pushed - 0.08, 0.36))
    yield from hand.move(Pose(x, bar + pushed - 0.08, 0.52))


_KNOB, _KNOB_HEIGHT = 0.14, 0.505
"""How far right of the sliding door's origin its handle lies, and how high, in metres."""


def move_slider(side: float) -> Callable[[Hand], Motion]:
    """Push the sliding door's handle from the other side; `side` is 1 for left and -1 for right."""

    def script(hand: Hand) -> Motion:
        hand.gripper = CLOSED
        knob, opened = hand.table.link("slide_link")[0] + _KNOB, hand.joint("base__slide")
        way = hand.table.joint_limit("base__slide") - opened if side > 0 else opened
        begin, end = knob + side * 0.06, knob + side * (0.01 - way)
        yield from hand.over(begin, -0.13)
        yield from hand.move(Pose(begin, -0.10, _KNOB_HEIGHT))
        yield from hand.move(Pose(begin, -0.02, _KNOB_HEIGHT), speed=0.4)
        yield from hand.move(Pose(end, -0.02, _KNOB_HEIGHT), speed=0.35)
        yield from hand.rest(4)
        yield from hand.move(Pose(end + side * 0.02, -0.12, _KNOB_HEIGHT))
        yield from hand.move(Pose(end + side * 0.02, -0.15, 0.57))

    return script


def _block(hand: Hand, color: str, turn: float = 0.0) -> tuple[float, float, float, float]:
    """Position of a block in metres, and the yaw with which the hand takes it by its short side.

    Of the two, it is the one that is nearer to the middle of the wrist's range, also when it has turned by `turn`.
    """
    block = hand.scene()["movable_objects"][f"block_{color}"]
    x, y, z, w = block["current_orn"]
    turned = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    grasps = [near(turned), near(turned + np.pi)]
    return (*block["current_pos"], min(grasps, key=lambda yaw: abs(yaw + turn / 2 - YAW)))


def _take(hand: Hand, color: str, turn: float = 0.0) -> Motion:
    """Grasp a block from above."""
    hand.gripper = OPEN
    x, y, _, yaw = _block(hand, color, turn)
    yield from hand.over(x, y, yaw)
    x, y, z, _ = _block(hand, color, turn)
    yield from hand.move(Pose(x, y, z, yaw), speed=0.4, wait=True)
    yield from hand.grip(CLOSED, 10)


def lift_from_above(color: str) -> Callable[[Hand], Motion]:
    """Grasp a block on the table or in the drawer and lift it."""

    def script(hand: Hand) -> Motion:
        _, _, height, _ = _block(hand, color)
        yield from _take(hand, color)
        x, y, _, yaw = _block(hand, color)
        yield from hand.move(Pose(x, y, height + 0.10, yaw), speed=0.4)

    return script


_DOOR, _WIDTH = 0.28, 0.10
"""Width of the sliding door, right of its origin, and room that the hand needs beside it, in metres."""
_TILT, _BEFORE = -0.7, 0.14
"""Pitch in radians with which the hand reaches into the cabinet, and how far before a block it begins, in metres."""


def lift_from_shelf(color: str) -> Callable[[Hand], Motion]:
    """Reach into the cabinet in the direction in which the tilted fingers point, grasp a block and lift it."""

    def script(hand: Hand) -> Motion:
        x, y, z, yaw = _block(hand, color)
        door = hand.table.link("slide_link")[0]
        if door - _WIDTH < x < door + _DOOR + _WIDTH:  # a door counts as moved before all of the shelf is free
            yield from move_slider(-1 if x < door + _DOOR / 2 else 1)(hand)
        hand.gripper = OPEN
        before = Pose(x, y + _BEFORE * np.sin(_TILT), z + _BEFORE * np.cos(_TILT), yaw, _TILT)
        yield from hand.rise()
        yield from hand.move(Pose(x, -0.12, 0.60, YAW, _TILT), speed=0.8)
        yield from hand.move(before, wait=True)
        yield from hand.move(Pose(x, y, z + 0.005, yaw, _TILT), speed=0.3, wait=True)
        yield from hand.grip(CLOSED, 10)
        yield from hand.move(Pose(x, y - 0.02, z + 0.055, yaw, _TILT), speed=0.3)
        yield from hand.move(Pose(x, before.y - 0.05, before.z + 0.03, yaw, _TILT), speed=0.4)

    return script


def push(color: str, side: float) -> Callable[[Hand], Motion]:
    """Push a block; `side` is 1 for right and -1 for left."""

    def script(hand: Hand) -> Motion:
        hand.gripper = CLOSED
        x, y, z, _ = _block(hand, color)
        yield from hand.over(x - side * 0.09, y)
        yield from hand.move(Pose(x - side * 0.09, y, z + 0.005))
        yield from hand.move(Pose(x + side * 0.09, y, z + 0.005), speed=0.25)
        yield from hand.rest(4)
        yield from hand.move(Pose(x + side * 0.06, y, z + 0.10))

    return script


def rotate(color: str, side: float) -> Callable[[Hand], Motion]:
    """Grasp a block, turn it above the table and put it down; `side` is 1 for left and -1 for right."""

    def script(hand: Hand) -> Motion:
        turn = side * 1.25
        x, y, z, yaw = _block(hand, color, turn)
        yield from _take(hand, color, turn)
        turned = yaw + turn
        yield from hand.move(Pose(x, y, z + 0.02, yaw))
        yield from hand.move(Pose(x, y, z + 0.02, turned))
        yield from hand.move(Pose(x, y, z + 0.002, turned))
        yield from hand.grip(OPEN, 6)
        yield from hand.move(Pose(x, y, z + 0.10, turned))

    return script


def _held(hand: Hand) -> str:
    """The color of the block between the fingers."""
    place = hand.table.measured()[0][:3]
    return min(_COLORS, key=lambda color: float(np.linalg.norm(np.array(_block(hand, color)[:3]) - place)))


def _carry(hand: Hand, pose: Pose) -> Motion:
    """Take a held block to a place, out of a cabinet or a drawer first, and then up."""
    hand.gripper = CLOSED
    (x, y, z), (_, pitch, yaw) = hand.table.measured()[0][:3], hand.table.target()[1]
    yield from hand.move(Pose(float(x), min(float(y), 0.0), max(float(z), 0.60), float(yaw), float(pitch)))
    yield from hand.move(pose, speed=0.7)


def place_in_drawer(hand: Hand) -> Motion:
    """Carry the held block over the drawer and let go."""
    x, y, _ = hand.table.link("drawer_link")
    yield from _carry(hand, Pose(x, y - 0.12, 0.60))
    yield from hand.move(Pose(x, y - 0.12, 0.45), speed=0.4)
    yield from hand.grip(OPEN, 8)
    yield from hand.move(Pose(x, y - 0.12, 0.60))


def place_in_slider(hand: Hand) -> Motion:
    """Reach with the held block into the side of the cabinet that is open, away from what lies there, and let go."""
    held, opened = _held(hand), hand.joint("base__slide")
    side = "slider_right" if opened > hand.table.joint_limit("base__slide") / 2 else "slider_left"
    middle = float(hand.table.surfaces[side][:, 0].mean())
    others = [_block(hand, color)[:2] for color in _COLORS if color != held]
    lying = [x for x, y in others if y > 0.05 and abs(x - middle) < 0.09]
    x = max(
        (middle - 0.05, middle, middle + 0.05), key=lambda place: min((abs(place - one) for one in lying), default=0)
    )
    if not lying:
        x = middle
    y, z = 0.085 + _BEFORE * np.sin(_TILT), 0.475 + _BEFORE * np.cos(_TILT)
    yield from _carry(hand, Pose(x, -0.12, 0.62, YAW, _TILT))
    yield from hand.move(Pose(x, y, z, YAW, _TILT), speed=0.5, wait=True)
    yield from hand.move(Pose(x, 0.085, 0.475, YAW, _TILT), speed=0.3, wait=True)
    yield from hand.grip(OPEN, 10)
    yield from hand.move(Pose(x, y - 0.03, z + 0.03, YAW, _TILT), speed=0.4)
    yield from hand.rest(6)


def stack(hand: Hand) -> Motion:
    """Put the held block on one that lies on the table."""
    held = _held(hand)
    others = [color for color in _COLORS if color != held]
    below = min(others, key=lambda color: (_block(hand, color)[1] > 0.03, abs(_block(hand, color)[2] - 0.46) > 0.015))
    x, y, z, yaw = _block(hand, below)
    yield from _carry(hand, Pose(x, y, 0.60, yaw))
    yield from hand.move(Pose(x, y, z + 0.06, yaw), speed=0.4, wait=True)
    # The block hangs somewhat beside the middle of the fingers.
    dx, dy, dz = np.array(_block(hand, held)[:3]) - hand.table.measured()[0][:3]
    yield from hand.move(Pose(x - dx, y - dy, z + 0.0415 - dz, yaw), speed=0.15, wait=True)
    yield from hand.grip(OPEN, 8)
    yield from hand.move(Pose(x, y, z + 0.16, yaw), speed=0.4)
    yield from hand.rest(10)


def unstack(hand: Hand) -> Motion:
    """Take the highest block from the one below."""
    top = max(_COLORS, key=lambda color: _block(hand, color)[2])
    yield from _take(hand, top)
    x, y, z, yaw = _block(hand, top)
    yield from hand.move(Pose(x, y, z + 0.08, yaw), speed=0.4)


_EDGE = -0.22
"""To where a block is pushed so that it falls from the table into the open drawer, in metres."""


def push_into_drawer(hand: Hand) -> Motion:
    """Push the block on the table that is nearest to the drawer's middle over the edge."""
    hand.gripper = CLOSED
    middle = hand.table.link("drawer_link")[0]
    blocks = [_block(hand, color)[:3] for color in _COLORS]
    lying = [place for place in blocks if place[1] < 0.0 and abs(place[2] - 0.46) < 0.02] or blocks
    x, y, z = min(lying, key=lambda place: abs(place[0] - middle))
    yield from hand.over(x, y + 0.07, yaw=0.0)
    yield from hand.move(Pose(x, y + 0.07, z + 0.005, 0.0))
    yield from hand.move(Pose(x, _EDGE, z + 0.005, 0.0), speed=0.25)
    yield from hand.rest(6)
    yield from hand.move(Pose(x, _EDGE + 0.05, z + 0.10, 0.0))
    yield from hand.rest(10)


SCRIPTS: dict[str, Callable[[Hand], Motion]] = {
    "turn_on_led": press_button,
    "turn_off_led": press_button,
    "turn_on_lightbulb": switch_on,
    "turn_off_lightbulb": switch_off,
    "open_drawer": open_drawer,
    "close_drawer": close_drawer,
    "push_into_drawer": push_into_drawer,
    "move_slider_left": move_slider(1),
    "move_slider_right": move_slider(-1),
    **{f"lift_{color}_block_table": lift_from_above(color) for color in _COLORS},
    **{f"lift_{color}_block_drawer": lift_from_above(color) for color in _COLORS},
    **{f"lift_{color}_block_slider": lift_from_shelf(color) for color in _COLORS},
    "place_in_drawer": place_in_drawer,
    "place_in_slider": place_in_slider,
    "stack_block": stack,
    "unstack_block": unstack,
    **dict(
        chain.from_iterable(
            (
                (f"push_{color}_block_left", push(color, -1)),
                (f"push_{color}_block_right", push(color, 1)),
                (f"rotate_{color}_block_left", rotate(color, 1)),
                (f"rotate_{color}_block_right", rotate(color, -1)),
            )
            for color in _COLORS
        )
    ),
}
"""What solves a task, by its name."""
