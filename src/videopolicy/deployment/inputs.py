"""What a caller hands over, checked against what a policy was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videopolicy.errors import DataError, did_you_mean, listing
from videopolicy.spaces import Spaces
from videopolicy.types import Window

Images = Mapping[str, Any]
"""By camera an RGB array or tensor."""


def frames_checked(images: Images, spaces: Spaces, count: int | None) -> dict[str, np.ndarray]:
    """Images of all cameras as ``(T, height, width, 3)`` uint8.

    Args:
        images: By camera ``(height, width, 3)`` for a single frame, or ``(T, height, width, 3)``; bytes, or floating
            point numbers from 0 to 1.
        spaces: Names and sizes of the cameras. Further images are not looked at.
        count: T; None takes any number, the same of all cameras.

    Raises:
        DataError: A camera is missing, or its images have another size, number or range.
    """
    if not isinstance(images, Mapping):
        raise DataError(
            f"Images are {type(images).__name__}, not a mapping from cameras to images.",
            f"Give images={{'{spaces.cameras[0].name}': image}}.",
        )
    found: dict[str, np.ndarray] = {}
    for camera in spaces.cameras:
        if camera.name not in images:
            raise DataError(
                f"There is no image of camera '{camera.name}', but of {listing(map(str, images)) or 'none'}."
                f"{did_you_mean(camera.name, [str(name) for name in images])}",
                f"The policy sees {listing([one.name for one in spaces.cameras], 8)}.",
            )
        frames = _array(images[camera.name])
        frames = frames[None] if frames.ndim == 3 else frames
        wanted = (camera.height, camera.width, 3)
        if frames.ndim != 4 or frames.shape[1:] != wanted:
            turned = frames.ndim == 4 and frames.shape[1:] == (3, camera.height, camera.width)
            raise DataError(
                f"An image of camera '{camera.name}' has shape {tuple(frames.shape[1:])}, and the policy was trained "
                f"on {wanted}: height, width, RGB.",
                "Put the colours last." if turned else "Resize or crop it as the training data were.",
            )
        found[camera.name] = _bytes(frames, camera.name)
    numbers = {name: len(frames) for name, frames in found.items()}
    wanted_count = next(iter(numbers.values())) if count is None else count
    if set(numbers.values()) != {wanted_count}:
        raise DataError(
            f"The cameras have {listing([f'{n} frames ({name})' for name, n in numbers.items()], 8)}, "
            f"and {wanted_count} are wanted of each.",
            "Give as many frames of every camera, the oldest first.",
        )
    return found


def state_checked(state: Any, spaces: Spaces, count: int) -> np.ndarray | None:
    """Proprioception as ``(T, S)`` float32 in the benchmark's units; None where the policy knows of none.

    Raises:
        DataError: It is missing, or of another length, or not finite.
    """
    if spaces.state is None:
        return None
    names = listing(spaces.state.names, 24)
    if state is None:
        raise DataError("There is no state, which the policy was trained with.", f"Give state=[{names}].")
    values = _array(state).astype(np.float32)
    values = values[None] if values.ndim == 1 else values
    wanted = (count, spaces.state.dim)
    if values.shape != wanted:
        raise DataError(
            f"The state has shape {tuple(values.shape)}, and {wanted} is wanted: frames, dimensions.",
            f"Give, for every frame, {names}.",
        )
    if not np.isfinite(values).all():
        bad = spaces.state.names[int(np.argwhere(~np.isfinite(values))[0, 1])]
        raise DataError(f"The state's '{bad}' is NaN or infinite.", "Give numbers.")
    return values


def sentence_checked(instruction: Any) -> str:
    """The instruction.

    Raises:
        DataError: It is no sentence.
    """
    if not isinstance(instruction, str) or not instruction.strip():
        raise DataError(
            f"The instruction is {instruction!r}, and the policy is conditioned on one.",
            "Give instruction='what to do', in words like those of the training data.",
        )
    return instruction


def past_checked(past: Any, spaces: Spaces, window: Window) -> np.ndarray | None:
    """The actions that led here as ``(P, A)``; NaN where none are given, None where the policy asks for none.

    Raises:
        DataError: They have another shape.
    """
    if not window.past_actions:
        return None
    shape = (window.past_actions, spaces.actions.dim)
    values = np.full(shape, np.nan, np.float32) if past is None else _array(past).astype(np.float32)
    if values.shape != shape:
        raise DataError(
            f"The past actions have shape {tuple(values.shape)}, and {shape} is wanted: steps, dimensions.",
            "Give the last ones that were executed, the oldest first, and NaN before the first.",
        )
    return values


def batched(frames: np.ndarray) -> Tensor:
    """Frames ``(T, height, width, 3)`` as a batch of one, ``(1, T, 3, height, width)``."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()[None]


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _bytes(frames: np.ndarray, camera: str) -> np.ndarray:
    """Images as bytes; floating point numbers are from 0 to 1."""
    if frames.dtype == np.uint8:
        return np.ascontiguousarray(frames)
    if not np.issubdtype(frames.dtype, np.floating):
        raise DataError(
            f"Images of camera '{camera}' are {frames.dtype}.", "Give uint8, or floating point numbers from 0 to 1."
        )
    low, high = float(frames.min()), float(frames.max())
    if not (low >= 0 and high <= 1):  # NaN as well
        raise DataError(
            f"Images of camera '{camera}' are {frames.dtype} from {low:g} to {high:g}.",
            "Give uint8, or floating point numbers from 0 to 1.",
        )
    return np.round(frames * 255).astype(np.uint8)
