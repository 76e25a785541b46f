"""Reads everything but the images, and checks it: one clear error for whatever is wrong with a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from pydantic import ValidationError

from videopolicy import DataError, Spaces
from videopolicy.errors import did_you_mean, listing
from vpolicy_hdf5.layout import IMAGE_ENDINGS, MARKER, PARTS, STATE_KEY, image_key

if TYPE_CHECKING:
    from vpolicy_hdf5.components import RobomimicHDF5


@dataclass(frozen=True)
class Recorded:
    """One episode of n steps without its images.

    Args:
        file: Where it lies, under ``data/<demo>``.
        image_keys: Recipe's camera name to key under ``obs``.
        image_shapes: Recipe's camera name to ``(height, width)``.
        actions: ``(n, A)`` float32.
        state: ``(n, S)`` float32 or None.
        state_names: One name per dimension of the state.
        initial_state: Hash of the simulator's first state, or empty where the file does not say.
        held_out: Whether the file's own mask puts it into validation.
        digest: Hash of the content.
    """

    file: Path
    demo: str
    task: str
    instruction: str
    image_keys: dict[str, str]
    image_shapes: dict[str, tuple[int, int]]
    actions: np.ndarray
    state: np.ndarray | None
    state_names: tuple[str, ...]
    initial_state: str
    held_out: bool
    digest: str

    @property
    def steps(self) -> int:
        return len(self.actions)


@contextmanager
def readable(path: Path, where: str = "") -> Iterator[None]:
    """Turn what HDF5 says about a damaged file into an error that names it."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        place = f"{path}, {where}," if where else str(path)
        said = str(error.args[0]) if error.args else repr(error)
        raise DataError(
            f"{place} cannot be read: {said}.",
            "The file is cut short, damaged, or not HDF5: copy or download it again, or delete it to collect it anew.",
        ) from error


def data_files(path: Path) -> list[Path]:
    """The HDF5 files that a path names, in a fixed order.

    Raises:
        DataError: There is none, or a collection was not finished.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"The dataset {path} does not exist.", "Correct `path` in the recipe's data section.")
    if (path / PARTS).is_dir() and not (path / MARKER).is_file():
        raise DataError(f"The collection in {path} was not finished.", "Run `vpolicy data collect` again: it goes on.")
    found = sorted(file for file in path.rglob("*.hdf5") if PARTS not in file.relative_to(path).parts)
    if not found:
        raise DataError(
            f"The folder {path} holds no .hdf5 file.", "Correct `path` in the recipe's data section, or collect first."
        )
    return found


def read_file(path: Path, options: RobomimicHDF5) -> tuple[Spaces | None, list[Recorded]]:
    """The spaces that the file declares, if any, and its episodes in numerical order.

    Raises:
        DataError: Naming file, episode and key of what is wrong.
    """
    with readable(path), h5py.File(path) as file:
        if not isinstance(file.get("data"), h5py.Group):
            raise DataError(
                f"{path} has no group 'data'; it holds {listing(file.keys())}.",
                "Convert it to the robomimic layout: data/demo_0/{actions,obs/...}.",
            )
        data = file["data"]
        demos = sorted((name for name in data if isinstance(data[name], h5py.Group)), key=_number)
        if not demos:
            raise DataError(f"{path} holds no episode.", "Delete it, or collect at least one demonstration.")
        spaces = _declared_spaces(path, data.attrs)
        task, sentence = _task(path, data.attrs)
        held_out = _masked(file, "mask/valid")
        episodes = []
        for name in demos[: options.episodes_per_task]:
            with readable(path, f"episode '{name}'"):
                episodes.append(_read(path, data, name, task, sentence, name in held_out, spaces, options))
    return spaces, episodes


def _read(
    path: Path,
    data: h5py.Group,
    name: str,
    task: str,
    sentence: str,
    held_out: bool,
    spaces: Spaces | None,
    options: RobomimicHDF5,
) -> Recorded:
    demo, where = data[name], f"{path}, episode '{name}'"
    actions = _numbers(demo, "actions", where)
    steps = len(actions)
    recorded = int(demo.attrs.get("num_samples", steps))
    if not steps or recorded != steps:
        raise DataError(
            f"{where}: {steps} actions are recorded where 'num_samples' says {recorded}.",
            "Remove this episode, or record it again.",
        )
    if not isinstance(demo.get("obs"), h5py.Group):
        raise DataError(
            f"{where} has no group 'obs'; it holds {listing(demo.keys())}.",
            "Render the observations first (robomimic's dataset_states_to_obs.py does it).",
        )
    obs = demo["obs"]
    keys = options.cameras or _default_cameras(obs, spaces)
    if not keys:
        raise DataError(f"{where} has no images; 'obs' holds {listing(obs.keys())}.", "Render the observations first.")
    shapes = {camera: _image_shape(obs, key, steps, where) for camera, key in keys.items()}
    state_keys = options.state or ((STATE_KEY,) if spaces is not None and spaces.state is not None else ())
    parts = {key: _numbers(obs, key, where, steps, "state") for key in state_keys}
    names = tuple(f"{key}_{i}" for key, part in parts.items() for i in range(part.shape[1]))
    if state_keys == (STATE_KEY,) and spaces is not None and spaces.state is not None:
        names = spaces.state.names
    state = np.concatenate(list(parts.values()), axis=1) if parts else None
    instruction = options.instructions.get(task) or _json(demo.attrs, "ep_meta", where).get("lang") or sentence
    if not instruction:
        raise DataError(
            f"{where} does not say in words what its task '{task}' is.",
            f"Give the sentence in the recipe: `instructions: {{{task}: ...}}` in the data section.",
        )
    content = _text(demo.attrs, "digest") or _digest(obs, keys, actions, state)
    return Recorded(
        path,
        name,
        task,
        str(instruction),
        dict(keys),
        shapes,
        actions,
        state,
        names,
        _text(demo.attrs, "initial_state"),
        held_out,
        content,
    )


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
            "Record the episode again."
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


def _declared_spaces(path: Path, attributes: h5py.AttributeManager) -> Spaces | None:
    if "spaces" not in attributes:
        return None
    try:
        return Spaces.model_validate_json(_text(attributes, "spaces"))
    except ValidationError as error:
        raise DataError(f"{path}: the attribute 'spaces' cannot be read: {error}", "Collect the file anew.") from error


def _task(path: Path, attributes: h5py.AttributeManager) -> tuple[str, str]:
    """Name of the file's task, and its sentence where the file says it once for all episodes (LIBERO)."""
    sentence = str(_json(attributes, "problem_info", str(path)).get("language_instruction", "")).strip().strip('"')
    if "task" in attributes:
        return _text(attributes, "task"), sentence
    if "bddl_file_name" in attributes:  # LIBERO: env_name is shared by many tasks, this file is not
        return Path(_text(attributes, "bddl_file_name")).stem, sentence
    return str(_json(attributes, "env_args", str(path)).get("env_name") or path.stem), sentence


def _json(attributes: h5py.AttributeManager, key: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(_text(attributes, key) or "{}")
    except ValueError as error:
        raise DataError(f"{where}: the attribute '{key}' is not JSON: {error}", "Record the file again.") from error
    return value if isinstance(value, dict) else {}


def _text(attributes: h5py.AttributeManager, key: str) -> str:
    value = attributes.get(key, "")
    return value.decode() if isinstance(value, bytes) else str(value)


def _masked(file: h5py.File, key: str) -> set[str]:
    names = file.get(key)
    if not isinstance(names, h5py.Dataset):
        return set()
    return {name.decode() if isinstance(name, bytes) else str(name) for name in names[()]}


def _digest(obs: h5py.Group, keys: dict[str, str], actions: np.ndarray, state: np.ndarray | None) -> str:
    """Hash of a foreign episode: all its numbers, the first and the last image, and how much the images take.

    Hashing tens of gigabytes of images at every start would cost minutes.
    """
    content = hashlib.sha256(actions.tobytes())
    if state is not None:
        content.update(state.tobytes())
    for camera, key in sorted(keys.items()):
        images = obs[key]
        content.update(f"{camera}{images.shape}{images.id.get_storage_size()}".encode())
        content.update(images[0].tobytes() + images[-1].tobytes())
    return content.hexdigest()


def _number(name: str) -> tuple[int, str]:
    digits = name.rsplit("_", 1)[-1]
    return (int(digits) if digits.isdigit() else -1, name)


def require_equal(episodes: Sequence[Recorded], names: Sequence[object], what: str) -> None:
    """All episodes must agree on something; the message names the first two that do not."""
    for episode, value in zip(episodes, names, strict=True):
        if value != names[0]:
            first = episodes[0]
            raise DataError(
                f"{what} is {value} in {episode.file}, episode '{episode.demo}', "
                f"and {names[0]} in {first.file}, episode '{first.demo}'.",
                "Use files of one kind, or remove the episodes that differ.",
            )
