"""Whether actions are what they are said to be, where a file also says where the hand was."""

from __future__ import annotations

import h5py
import numpy as np

from videopolicy import ActionSpace, DataError
from vpolicy_hdf5.whole import follow

_HAND = ("ee_pos", "robot0_eef_pos")
"""Keys of the hand's position in metres, in the world's frame: LIBERO's and robosuite's."""
_NEAR, _FAR = 0.1, 0.5
"""Metres. A pose to take lies near the hand, at a table's height; a displacement in the controller's units does not."""


def ensure_kind(actions: np.ndarray, obs: h5py.Group, said: ActionSpace | None, where: str) -> None:
    """Check that absolute actions are absolute and relative ones relative.

    Args:
        actions: ``(n, A)``, as recorded or converted; the first three are the translation.
        obs: Of the episode.
        said: What the actions are said to be.
        where: File and episode, for messages.

    Raises:
        DataError: They are the other kind.
    """
    if said is None or said.names[:3] != ("x", "y", "z") or actions.shape[1] < 3:
        return
    hand = next((one for key in _HAND if isinstance(one := follow(obs, key, where), h5py.Dataset)), None)
    if hand is None or hand.shape != (len(actions), 3):
        return
    distance = float(np.median(np.linalg.norm(actions[:, :3] - np.asarray(hand[()], np.float32), axis=1)))
    if said.control == "absolute_position" and distance > _FAR:
        kind = "displacements"
    elif said.control == "delta_position" and distance < _NEAR:
        kind = "positions to go to"
    else:
        return
    raise DataError(
        f"{where}: the actions are said to be {said.control}, and are {kind}: half of them lie within {distance:.2g} m "
        "of where the hand is.",
        "Name data that were recorded with the benchmark's actions, or choose the benchmark's actions to fit the data "
        "(`actions` of LIBERO: relative or absolute).",
    )
