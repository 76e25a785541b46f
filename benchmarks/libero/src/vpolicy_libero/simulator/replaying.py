"""Recorded states, put back into a scene."""

from __future__ import annotations

import numpy as np
from scene import Scene, Sight

MOVED = 0.005
"""Metres or radians by which an attempt may begin otherwise in another version of MuJoCo."""


def put_back(scene: Scene, state: np.ndarray) -> bool:
    """Put everything where it was in a recorded state ``(s,)``; returns whether the task is solved there.

    Raises:
        ValueError: It is a state of another scene.
    """
    expected = scene.flat_state().shape
    if state.shape != expected:
        raise ValueError(f"states have {len(state)} numbers, those of this scene {expected[0]}")
    scene.env.sim.set_state_from_flattened(state)
    scene.env.sim.forward()
    scene.env._post_process()
    return bool(scene.env._check_success())


def sights(scene: Scene, states: np.ndarray) -> tuple[list[Sight], bool]:
    """What was seen before every action of a demonstration.

    Args:
        scene: Where it happened, begun.
        states: ``(n, s)``, recorded before every action.

    Returns:
        As many sights, and whether the task is solved in one of the states.

    Raises:
        ValueError: They are states of another scene, or the scene begins otherwise.
    """
    first, begun = scene.sight, scene.flat_state()
    positions = slice(1, 1 + scene.model.nq)
    if states.shape[1:] == begun.shape:  # if not, this is said when the first is put back
        moved = float(np.abs(states[0] - begun)[positions].max())
        if moved > MOVED:
            raise ValueError(f"the scene begins otherwise than the states: a joint is {moved:.3f} m or rad away")
    seen, success, colors = [], False, first.colors
    for state in states:
        success = put_back(scene, state) or success
        seen.append(Sight(scene.sampled_positions(), scene.data.qpos.copy(), colors))
        colors = scene.model.site_rgba.copy()  # sensors sample before they change
    if np.array_equal(states[0], begun):
        seen[0] = first
    return seen, success
