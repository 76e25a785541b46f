"""Reads everything but the images, and checks it: one clear error for whatever is wrong with a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from videopolicy import DataError, Spaces, did_you_mean, listing
from vpolicy_hdf5.attributes import data_group, mapping, masked, sentence_of, spaces_of, text, whole_number
from vpolicy_hdf5.choosing import episodes_of
from vpolicy_hdf5.layout import IMAGE_ENDINGS, STATE_KEY, image_key
from vpolicy_hdf5.options import RobomimicHDF5Options


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


@dataclass(frozen=True)
class _Opened:
    """What holds for all episodes of one file."""

    path: Path
    task: str
    sentence: str
    spaces: Spaces | None
    supervised: bool
    options: RobomimicHDF5Options


def read_file(
    path: Path, task: str, supervised: bool, options: RobomimicHDF5Options
) -> tuple[Spaces | None, list[Recorded]]:
    """The spaces that the file declares, if any, and its episodes in numerical order.

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
        opened = _Opened(path, task, sentence_of(path, data.attrs), spaces, supervised, options)
        held_out = masked(file, "valid")
        episodes = []
        for name in episodes_of(file, path, task, options):
            with readable(path, f"episode '{name}'"):
                episodes.append(_read(opened, data[name], name, name in held_out))
    return spaces, episodes


def _read(opened: _Opened, demo: h5py.Group, name: str, held_out: bool) -> Recorded:
    where, options, spaces = f"{opened.path}, episode '{name}'", opened.options, opened.spaces
    actions = _actions(demo, where, options) if opened.supervised else None
    if not isinstance(demo.get("obs"), h5py.Group):
        raise DataError(
            f"{where} has no group 'obs'; it holds {listing(demo.keys())}.",
            "Render the observations first (robomimic's dataset_states_to_obs.py does it).",
        )
    obs = demo["obs"]
    keys = options.cameras or _default_cameras(obs, spaces)
    if not keys:
        raise DataError(f"{where} has no images; 'obs' holds {listing(obs.keys())}.", "Render the observations first.")
    steps = len(_member(obs, next(iter(keys.values())), where, "camera") if actions is None else actions)
    recorded = int(demo.attrs.get("num_samples", steps))
    if not steps or recorded != steps:
        raise DataError(
            f"{where}: {steps} {'images' if actions is None else 'actions'} are recorded where 'num_samples' says "
            f"{recorded}.",
            "Remove this episode, or record it again.",
        )
    shapes = {camera: _image_shape(obs, key, steps, where) for camera, key in keys.items()}
    state_keys = options.state or ((STATE_KEY,) if spaces is not None and spaces.state is not None else ())
    parts = {key: _numbers(obs, key, where, steps, "state") for key in state_keys}
    names = tuple(f"{key}_{i}" for key, part in parts.items() for i in range(part.shape[1]))
    if state_keys == (STATE_KEY,) and spaces is not None and spaces.state is not None:
        names = spaces.state.names
    state = np.concatenate(list(parts.values()), axis=1) if parts else None
    task, said = opened.task, mapping(demo.attrs, "ep_meta", where).get("lang")
    if options.instructions == "file-name":
        instruction = opened.path.stem.removesuffix("_demo").replace("_", " ")
    else:
        instruction = options.instructions.get(task) or said or opened.sentence
    if not instruction:
        raise DataError(
            f"{where} does not say in words what its task '{task}' is.",
            f"Give the sentence in the recipe: `instructions: {{{task}: ...}}` in the data section.",
        )
    return Recorded(
        file=opened.path,
        demo=name,
        task=task,
        instruction=str(instruction),
        steps=steps,
        image_keys=dict(keys),
        image_shapes=shapes,
        actions=actions,
        state=state,
        state_names=names,
        initial_state=text(demo.attrs, "initial_state"),
        held_out=held_out,
        digest=text(demo.attrs, "digest") or _digest(obs, keys, state),
    )


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
    rows = Rotation.from_rotvec(actions[:, 3:6].astype(np.float64)).as_matrix()[:, :2].reshape(-1, 6)
    return np.concatenate([actions[:, :3], rows.astype(np.float32), actions[:, 6:]], axis=1)


def _numbers(group: h5py.Group, key: str, where: str, steps: int | None = None, role: str = "actions") -> np.ndarray:
    """A finite ``(n, dimensions)`` float32 array."""
    dataset = _member(group, key, where, role)
    values = np.asarray(dataset[()])
    if values.ndim == 1 and role == "state":
        values = values[:, None]
    if values.ndim != 2 or values.dtype.kind not in "fiu" or (steps is not None and len(values) != steps):
        expected = f"({'steps' if steps is None else steps}, dimensions) of numbers"
        raise DataError(
            f"{where}: '{key}' has shape {values.shape} and type {values.dtype}, not {expected}.",
            "Remove this episode, or record it again.",
        )
    values = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError(
            f"{where}: '{key}' is not finite at step {bad[0]}"
            + (f" and {len(bad) - 1} further steps." if len(bad) > 1 else "."),
            "Remove this episode, or record it again.",
        )
    return values


def _image_shape(obs: h5py.Group, key: str, steps: int, where: str) -> tuple[int, int]:
    dataset = _member(obs, key, where, "camera")
    shape = dataset.shape
    if len(shape) != 4 or shape[0] != steps or shape[3] != 3 or dataset.dtype != np.uint8:
        raise DataError(
            f"{where}: 'obs/{key}' has shape {shape} and type {dataset.dtype}, "
            f"not ({steps}, height, width, 3) of uint8.",
            "Choose another key for this camera, or record the episode again.",
        )
    return int(shape[1]), int(shape[2])


def _member(group: h5py.Group, key: str, where: str, role: str) -> h5py.Dataset:
    member = group.get(key)
    if not isinstance(member, h5py.Dataset):
        # Image keys are proposed for cameras, the others for everything else.
        near = [
            name
            for name in group
            if (isinstance(group[name], h5py.Dataset) and _is_image(group[name])) == (role == "camera")
        ]
        prefix = "obs/" if role != "actions" else ""
        raise DataError(
            f"{where} has no '{prefix}{key}'.{did_you_mean(key, near)} There is: {listing(near)}.",
            "Record the episode again, or name its task under `actionless_tasks`: its video is then used alone."
            if role == "actions"
            else f"Correct `{'cameras' if role == 'camera' else 'state'}` in the recipe's data section.",
        )
    return member


def _is_image(dataset: h5py.Dataset) -> bool:
    return dataset.ndim == 4 and dataset.shape[3] == 3 and dataset.dtype == np.uint8


def _default_cameras(obs: h5py.Group, spaces: Spaces | None) -> dict[str, str]:
    if spaces is not None:
        return {camera.name: image_key(camera.name) for camera in spaces.cameras}
    keys = [key for key in obs if isinstance(obs[key], h5py.Dataset) and _is_image(obs[key])]
    return {next((key.removesuffix(end) for end in IMAGE_ENDINGS if key.endswith(end)), key): key for key in keys}


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
