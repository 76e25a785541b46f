"""Reads everything but the images, and checks it: one clear error for whatever is wrong with a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from videopolicy import DataError, Spaces, listing
from videopolicy.parts.sentences import Sentence, read_sentence
from vpolicy_hdf5.attributes import (
    data_group,
    mapping,
    masked,
    orientation_of,
    sentence_of,
    spaces_of,
    text,
    whole_number,
)
from vpolicy_hdf5.choosing import episodes_of
from vpolicy_hdf5.faults import readable
from vpolicy_hdf5.images import cameras_of, image_shape, member
from vpolicy_hdf5.layout import LIBERO, STATE_KEY
from vpolicy_hdf5.motion import ensure_kind
from vpolicy_hdf5.options import RobomimicHDF5Options
from vpolicy_hdf5.whole import ensure_whole, follow


@dataclass(frozen=True)
class Recorded:
    """One episode of n steps without its images.

    Args:
        file: Where it lies, under ``data/<demo>``.
        steps: n.
        image_keys: Recipe's camera name to key under ``obs``.
        image_shapes: Recipe's camera name to ``(height, width)``.
        actions: ``(n, A)`` float32, or None where they are absent or not to be seen.
        state: ``(n, S)`` float32 or None.
        state_names: One name per dimension of the state.
        initial_state: Hash of the simulator's first state, or empty where the file does not say.
        held_out: Whether the file's own mask puts it into validation.
        digest: Hash of what was observed.
        changed: How the sentence was made from what is stored; empty where it is stored as a sentence.
        orientation: How images are stored: ``upright``, ``bottom-up`` or ``mirrored``.
        expert: What acted, such as ``scripted``; empty where the file does not say.
    """

    file: Path
    demo: str
    task: str
    instruction: str
    steps: int
    image_keys: dict[str, str]
    image_shapes: dict[str, tuple[int, int]]
    actions: np.ndarray | None
    state: np.ndarray | None
    state_names: tuple[str, ...]
    initial_state: str
    held_out: bool
    digest: str
    changed: str = ""
    orientation: str = "upright"
    expert: str = ""


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Args:
        spaces: Those that the file declares, if any.
        episodes: In numerical order.
        remarks: What is odd about the file.
    """

    spaces: Spaces | None
    episodes: list[Recorded]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Opened:
    """What holds for all episodes of one file."""

    path: Path
    task: str
    sentence: Sentence
    spaces: Spaces | None
    libero: bool
    orientation: str
    supervised: bool
    options: RobomimicHDF5Options


def read_file(path: Path, task: str, supervised: bool, options: RobomimicHDF5Options) -> Contents:
    """What a file holds besides its images, which are all there.

    Args:
        path: The file.
        task: Name of its task.
        supervised: Whether its actions are to be seen; a file without any can be read only if not.
        options: What the recipe says.

    Raises:
        DataError: Naming file, episode and key of what is wrong.
    """
    with readable(path), h5py.File(path) as file:
        data = data_group(path, file)
        spaces = spaces_of(path, data.attrs)
        orientation = orientation_of(path, data.attrs, options.orientation)
        sentence, libero = sentence_of(path, data.attrs), LIBERO in data.attrs
        opened = _Opened(path, task, sentence, spaces, libero, orientation, supervised, options)
        held_out = masked(file, "valid", str(path))
        used = {key: masked(file, key, str(path)) for key in ("valid", options.filter_key) if key}
        remarks = [
            f"'mask/{key}' of {path} names {len(absent)} episodes that the file does not hold: {listing(absent, 4)}"
            for key, names in used.items()
            if (absent := names - set(data))
        ]
        episodes = []
        for name in episodes_of(file, path, task, options):
            with readable(path, f"episode '{name}'"):
                episodes.append(_read(opened, data[name], name, name in held_out))
    return Contents(spaces, episodes, tuple(remarks))


def _read(opened: _Opened, demo: h5py.Group, name: str, held_out: bool) -> Recorded:
    where, options, spaces = f"{opened.path}, episode '{name}'", opened.options, opened.spaces
    actions = _actions(demo, where, options) if opened.supervised else None
    obs = follow(demo, "obs", where)
    if not isinstance(obs, h5py.Group):
        raise DataError(
            f"{where} has no group 'obs'; it holds {listing(demo.keys())}.",
            "Render the observations first (robomimic's dataset_states_to_obs.py does it).",
        )
    keys = options.cameras or cameras_of(obs, spaces, opened.libero, where)
    shape = member(obs, next(iter(keys.values())), where, "camera").shape if actions is None else actions.shape
    steps = shape[0] if shape else 0
    recorded = whole_number(demo.attrs, "num_samples", where)
    if not steps or recorded not in (None, steps):
        raise DataError(
            f"{where}: {steps} {'images' if actions is None else 'actions'} are recorded"
            + ("." if recorded is None else f" where 'num_samples' says {recorded}."),
            "Remove this episode, or record it again.",
        )
    shapes = {camera: image_shape(obs, key, steps, where) for camera, key in keys.items()}
    state_keys = options.state or ((STATE_KEY,) if spaces is not None and spaces.state is not None else ())
    parts = {key: _numbers(obs, key, where, steps, "state") for key in state_keys}
    names = tuple(f"{key}_{i}" for key, part in parts.items() for i in range(part.shape[1]))
    if state_keys == (STATE_KEY,) and spaces is not None and spaces.state is not None:
        names = spaces.state.names
    state = np.concatenate(list(parts.values()), axis=1) if parts else None
    if actions is not None:
        ensure_kind(actions, obs, spaces.actions if spaces else options.actions, where)
    task, sentence = opened.task, _sentence(opened, demo, where)
    if not sentence.text:
        raise DataError(
            f"{where} does not say in words what its task '{task}' is.",
            f"Give the sentence in the recipe: `instructions: {{{task}: ...}}` in the data section.",
        )
    return Recorded(
        file=opened.path,
        demo=name,
        task=task,
        instruction=sentence.text,
        steps=steps,
        image_keys=dict(keys),
        image_shapes=shapes,
        actions=actions,
        state=state,
        state_names=names,
        initial_state=text(demo.attrs, "initial_state", where),
        held_out=held_out,
        digest=text(demo.attrs, "digest", where) or _digest(obs, keys, state),
        changed=sentence.changed,
        orientation=opened.orientation,
        expert=str(mapping(demo.attrs, "facts", where).get("expert", "")),
    )


def _sentence(opened: _Opened, demo: h5py.Group, where: str) -> Sentence:
    """What the recipe says of the task, else the episode of itself, else the file of all its episodes."""
    instructions = opened.options.instructions
    if instructions == "file-name":
        return Sentence(opened.path.stem.removesuffix("_demo").replace("_", " "))
    if chosen := instructions.get(opened.task, "").strip():
        return Sentence(chosen)
    said = read_sentence(mapping(demo.attrs, "ep_meta", where).get("lang"), f"{where}, 'lang' of 'ep_meta'")
    return said if said.text else opened.sentence


def _actions(demo: h5py.Group, where: str, options: RobomimicHDF5Options) -> np.ndarray:
    actions, columns = _numbers(demo, "actions", where), options.action_dimensions
    if columns and max(columns) >= actions.shape[1]:
        raise DataError(
            f"{where}: 'actions' has {actions.shape[1]} dimensions, so there is no dimension {max(columns)} "
            "(they are counted from 0).",
            "Correct `action_dimensions` in the recipe's data section.",
        )
    if columns:
        actions = actions[:, list(columns)]
    if options.rotation == "recorded":
        return actions
    if actions.shape[1] < 6:
        raise DataError(
            f"{where}: 'actions' has {actions.shape[1]} dimensions, too few for a position and an axis with its angle.",
            "Correct `rotation` or `action_dimensions` in the recipe's data section.",
        )
    return _six_dimensional(actions)


def _six_dimensional(actions: np.ndarray) -> np.ndarray:
    """Position, axis and angle, and the rest as position, first two rows of the rotation matrix, and the rest."""
    from scipy.spatial.transform import Rotation  # most data need none of it, and it takes long to import

    rows = Rotation.from_rotvec(actions[:, 3:6].astype(np.float64)).as_matrix()[:, :2].reshape(-1, 6)
    return np.concatenate([actions[:, :3], rows.astype(np.float32), actions[:, 6:]], axis=1)


def _numbers(group: h5py.Group, key: str, where: str, steps: int | None = None, role: str = "actions") -> np.ndarray:
    """A finite ``(n, dimensions)`` float32 array."""
    dataset = member(group, key, where, role)
    ensure_whole(dataset, f"{where}: '{key}'")
    values = np.asarray(dataset[()])
    if values.ndim == 1 and role == "state":
        values = values[:, None]
    if values.ndim != 2 or values.dtype.kind not in "fiu" or (steps is not None and len(values) != steps):
        expected = f"({'steps' if steps is None else steps}, dimensions) of numbers"
        raise DataError(
            f"{where}: '{key}' has shape {values.shape} and type {values.dtype}, not {expected}.",
            "Remove this episode, or record it again.",
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is found
        values = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError(
            f"{where}: '{key}' is not finite at step {bad[0]}"
            + (f" and {len(bad) - 1} further steps." if len(bad) > 1 else "."),
            "Remove this episode, or record it again.",
        )
    return values


def _digest(obs: h5py.Group, keys: dict[str, str], state: np.ndarray | None) -> str:
    """Hash of a foreign episode's observations: the state, the first and the last image, and how much the images take.

    Hashing tens of gigabytes of images at every start would cost minutes.
    """
    content = hashlib.sha256(b"" if state is None else state.tobytes())
    for camera, key in sorted(keys.items()):
        images = obs[key]
        content.update(f"{camera}{images.shape}{images.id.get_storage_size()}".encode())
        content.update(images[0].tobytes() + images[-1].tobytes())
    return content.hexdigest()


def require_equal(episodes: Sequence[Recorded], names: Sequence[object], what: str) -> None:
    """All episodes must agree on something; the message names the first two that do not."""
    for episode, value in zip(episodes, names, strict=True):
        if value != names[0]:
            first = episodes[0]
            raise DataError(
                f"{what} is {value} in {episode.file}, episode '{episode.demo}', "
                f"and {names[0]} in {first.file}, episode '{first.demo}'.",
                "Choose files of one kind with `files` in the recipe's data section, or remove those that differ.",
            )
