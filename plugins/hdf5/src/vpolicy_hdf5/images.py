"""Finds the images of an episode, and says what is to be done with those that are stored in another way."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod

import h5py
import numpy as np

from videopolicy import DataError, Spaces, did_you_mean, listing
from videopolicy.parts.pictures import oddity
from vpolicy_hdf5.layout import IMAGE_ENDINGS, image_key
from vpolicy_hdf5.whole import ensure_whole, follow


def is_image(member: object) -> bool:
    """Whether something is ``(steps, height, width, 3)`` of bytes."""
    return isinstance(member, h5py.Dataset) and member.ndim == 4 and member.shape[3] == 3 and member.dtype == np.uint8


def cameras_of(obs: h5py.Group, spaces: Spaces | None, libero: bool, where: str) -> dict[str, str]:
    """Cameras to keys where the recipe says none: those of collected files, or all keys that hold images.

    Raises:
        DataError: There are none.
    """
    if spaces is not None:
        return {camera.name: image_key(camera.name, libero) for camera in spaces.cameras}
    keys = [key for key in obs if is_image(follow(obs, key, where))]
    if keys:
        return {next((key.removesuffix(end) for end in IMAGE_ENDINGS if key.endswith(end)), key): key for key in keys}
    message = f"{where} has no images; 'obs' holds {listing(obs.keys())}."
    for key, one in _datasets(obs, where):
        if is_image(one):
            raise DataError(message, f"Name them in the recipe's data section: `cameras: {{{_camera(key)}: {key}}}`.")
    for key, one in _datasets(obs, where):
        if one.ndim >= 4 and one.size and (odd := oddity(one.shape, one.dtype, partial(one.__getitem__, 0))):
            raise DataError(f"{message} 'obs/{key}' has shape {one.shape}: {odd[0]}.", odd[1])
    raise DataError(message, "Render the observations first (robomimic's dataset_states_to_obs.py does it).")


def image_shape(obs: h5py.Group, key: str, steps: int, where: str) -> tuple[int, int]:
    """Height and width of a camera's images, which are all there.

    Raises:
        DataError: They are no images as this reader reads them, or some are missing.
    """
    dataset = member(obs, key, where, "camera")
    shape, place = dataset.shape, f"{where}: 'obs/{key}'"
    if not is_image(dataset) or shape[0] != steps or not shape[1] * shape[2]:
        odd = oddity(shape, dataset.dtype, lambda: dataset[0]) if steps and prod(shape) else None
        what, hint = odd or ("", "Choose another key for this camera, or record the episode again.")
        raise DataError(
            f"{place} has shape {shape} and type {dataset.dtype}, not ({steps}, height, width, 3) of uint8"
            f"{f': {what}' if what else ''}.",
            hint,
        )
    ensure_whole(dataset, place)
    return int(shape[1]), int(shape[2])


def member(group: h5py.Group, key: str, where: str, role: str) -> h5py.Dataset:
    """What lies under a key.

    Args:
        group: An episode, or its ``obs``.
        key: The key; that of a nested array has slashes.
        where: File and episode, for messages.
        role: ``actions``, ``camera`` or ``state``.

    Raises:
        DataError: No array does; the message has the nearest names.
    """
    found = follow(group, key, where)
    if isinstance(found, h5py.Dataset) and found.shape is not None:
        return found
    prefix = "obs/" if role != "actions" else ""
    # Image keys are proposed for cameras, the others for everything else.
    near = [name for name, one in _datasets(group, where) if is_image(one) == (role == "camera")]
    option = "cameras" if role == "camera" else "state"
    inside = [name for name in near if name.startswith(f"{key}/")]
    if inside and role != "actions":
        value = f"{{{_camera(key)}: {inside[0]}}}" if role == "camera" else f"[{inside[0]}]"
        raise DataError(
            f"{where}: '{prefix}{key}' is a group that holds {listing(inside)}.",
            f"Name the array in the recipe's data section: `{option}: {value}`.",
        )
    raise DataError(
        f"{where} has no '{prefix}{key}'.{did_you_mean(key, near)} There is: {listing(near)}.",
        "Record the episode again, or name its task under `actionless_tasks`: its video is then used alone."
        if role == "actions"
        else f"Correct `{option}` in the recipe's data section.",
    )


def _datasets(group: h5py.Group, where: str, depth: int = 3) -> Iterator[tuple[str, h5py.Dataset]]:
    """All arrays of a group and of the groups in it, with their keys."""
    for key in group:
        found = follow(group, key, where)
        if isinstance(found, h5py.Dataset):
            if found.shape is not None:
                yield key, found
        elif isinstance(found, h5py.Group) and depth:
            yield from ((f"{key}/{name}", one) for name, one in _datasets(found, where, depth - 1))


def _camera(key: str) -> str:
    return key.split("/")[0]
