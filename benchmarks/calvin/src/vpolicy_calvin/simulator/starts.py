"""Where single tasks begin: states of the official kinds, with the blocks a little elsewhere and the hand anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import chains
import numpy as np

if TYPE_CHECKING:
    from playtable import PlayTable

_SLOTS = (1 / 7, 0.657)
"""Where blocks lie on the table, as shares of the width of its free part (0.05 and 0.23 m on table D)."""
_TABLE_Y, _SHELF_Y, _HEIGHT = -0.12, 0.0924, 0.46
"""Of blocks, in metres."""
_AROUND = {"table": (0.03, 0.02), "shelf": (0.01, 0.0)}
"""How far from there they may lie, in x and in y, in metres."""
_HAND = ((-0.15, -0.25, 0.50), (0.25, -0.10, 0.62))
"""Two corners of the room in which the hand begins, in metres."""


class Start(NamedTuple):
    """Where a task begins.

    Args:
        robot: ``robot_obs`` (15,).
        scene: ``scene_obs`` (24,), blocks in the table's own order.
        hand: Where the hand goes before, (3,) in metres.
        gripper: 1 for an open hand, -1 for a closed one.
        before: Tasks that are done before.
    """

    robot: np.ndarray
    scene: np.ndarray
    hand: np.ndarray
    gripper: float
    before: tuple[str, ...]


def draw(table: PlayTable, task: str, random: np.random.Generator) -> Start:
    """Draw the state in which a task begins, or in which what has to be done before it begins."""
    choices = chains.preparations(task)
    state, before = choices[random.integers(len(choices))]
    scene = np.zeros(24)
    scene[0] = table.joint_limit("base__slide") if state["slider"] == "left" else 0.0
    scene[1] = table.joint_limit("base__drawer") if state["drawer"] == "open" else 0.0
    scene[3] = table.joint_limit("base__switch") if state["lightbulb"] else 0.0
    scene[4], scene[5] = state["lightbulb"], state["led"]
    places = _places(table, state, random)
    for number, block in enumerate(table.blocks):
        scene[6 + 6 * number : 9 + 6 * number] = places[block]
        scene[11 + 6 * number] = random.uniform(*chains.YAW)
    gripper = float(random.choice([-1.0, 1.0]))
    return Start(np.array(chains.ROBOT), scene, random.uniform(*_HAND), gripper, before)


def _places(table: PlayTable, state: chains.State, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Where blocks lie, ``(3,)`` by the table's name for them."""
    (low, _, _), (high, _, _) = table.surfaces["table"]
    slots = [low + share * (high - low) for share in random.permutation(_SLOTS)]
    found = {}
    for block in table.blocks:
        where = state[f"{block.partition('_')[2]}_block"]
        around = _AROUND["table" if where == "table" else "shelf"]
        x = slots.pop() if where == "table" else table.surfaces[where][:, 0].mean()
        y = _TABLE_Y if where == "table" else _SHELF_Y
        dx, dy = random.uniform(-1, 1, 2) * around
        found[block] = np.array([x + dx, y + dy, _HEIGHT])
    return found
