"""Recorded episodes with the simulator's states, from which they can be replayed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from videopolicy import DataError, Episode
from vpolicy_hdf5.attributes import data_group, mapping, text, whole_number
from vpolicy_hdf5.choosing import data_files, tasks_of
from vpolicy_hdf5.collected import further_keys
from vpolicy_hdf5.faults import readable
from vpolicy_hdf5.options import RobomimicHDF5Options
from vpolicy_hdf5.reading import Recorded, read_file
from vpolicy_hdf5.whole import ensure_whole, follow

_HINT = "Record it with `vpolicy data collect`, which keeps both."


def replayable_episodes(path: Path, options: RobomimicHDF5Options) -> list[Episode]:
    """All episodes of a dataset without their pictures.

    Args:
        path: A file or a folder of files.
        options: What the recipe says about them.

    Raises:
        DataError: An episode holds no states, or does not say from which attempt it is.
    """
    found = []
    for file, task in tasks_of(path, data_files(path, options.files)).items():
        episodes = read_file(file, task, True, options).episodes
        with readable(file), h5py.File(file) as opened:
            data = data_group(file, opened)
            found += [_episode(one, data[one.demo], f"{file}, episode '{one.demo}'") for one in episodes]
    return found


def _episode(recorded: Recorded, demo: h5py.Group, where: str) -> Episode:
    attempt = whole_number(demo.attrs, "attempt", where)
    states = follow(demo, "states", where)
    if not isinstance(states, h5py.Dataset) or states.shape is None:
        raise DataError(f"{where}, holds no states of the simulator: nobody can say where things were.", _HINT)
    if attempt is None:
        raise DataError(f"{where}, does not say from which attempt it is: its scene cannot be made again.", _HINT)
    ensure_whole(states, f"{where}: 'states'")
    values = np.asarray(states[()], np.float64)
    if values.ndim != 2 or len(values) != recorded.steps or not np.isfinite(values).all():
        expected = f"({recorded.steps}, s) finite numbers"
        raise DataError(f"{where}: 'states' of shape {values.shape} are not {expected}.", "Record this episode again.")
    assert recorded.actions is not None  # they were asked for
    model = text(demo.attrs, "model_file", where)
    return Episode(
        task=recorded.task,
        instruction=recorded.instruction,
        images={},
        actions=recorded.actions,
        state=recorded.state,
        initial_state=text(demo.attrs, "initial_state", where),
        success=True,
        attempt=attempt,
        states=values,
        arrays={key: _measured(demo, key, where) for key in further_keys(demo, where) if key != "states"},
        facts={**mapping(demo.attrs, "facts", where), **({"model_file": model} if model else {})},
    )


def _measured(demo: h5py.Group, key: str, where: str) -> np.ndarray:
    ensure_whole(demo[key], f"{where}: '{key}'")
    return np.asarray(demo[key][()])
