"""What a dataset gives is what its spaces and the window say, or one sentence names the field and both sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from videopolicy.contracts.checked import described, ensure_kind, wrong
from videopolicy.contracts.dataset import Windows
from videopolicy.spaces import Spaces
from videopolicy.types import Batch, Window


class _Field(NamedTuple):
    name: str
    found: object
    shape: tuple[int, ...]
    kind: torch.dtype
    axes: str


def ensure_sound_sample(windows: Windows, window: Window, spaces: Spaces, dataset: str) -> None:
    """Read the first and the last window, and ensure that they hold what was asked for, with sound values.

    Args:
        windows: Not empty.
        window: What was asked for.
        spaces: The dataset's.
        dataset: What it is called in messages.

    Raises:
        PluginError: A field is missing, of another shape or type, or not finite.
    """
    indices = sorted({0, len(windows) - 1})
    batch = windows.batch(indices)
    ensure_kind(dataset, "batch", batch, Batch)
    rows, sentences = len(indices), batch.observation.instructions
    if not isinstance(sentences, list) or len(sentences) != rows or not all(isinstance(one, str) for one in sentences):
        wrong(dataset, "batch", f"the instructions {sentences!r}", f"a list of {rows} sentences", _HINT)
    for field in _fields(batch, window, spaces, rows):
        expected = f"{field.shape} and type {_type(field.kind)}: {field.axes}"
        found = field.found
        if not isinstance(found, Tensor) or tuple(found.shape) != field.shape or found.dtype != field.kind:
            wrong(dataset, "batch", f"as `{field.name}` {described(found)}", f"a tensor of shape {expected}", _HINT)
        there = batch.action_mask if field.name == "actions" else None
        values = found[there] if isinstance(there, Tensor) and there.dtype == torch.bool else found
        if values.is_floating_point() and field.name != "past_actions" and not bool(torch.isfinite(values).all()):
            wrong(dataset, "batch", f"NaN or infinity in `{field.name}`", "numbers where nothing is masked", _HINT)


_HINT = "Correct the dataset's reading, or the data; masks say what is not there."


def _type(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _fields(batch: Batch, window: Window, spaces: Spaces, rows: int) -> Iterator[_Field]:
    """What is expected, masks before what they mask."""
    seen, flags, numbers = batch.observation, torch.bool, torch.float32
    every = len(window.observed) + len(window.future)
    for name, latents in batch.latents.items():
        size = (rows, every, *(latents.shape[2:] if isinstance(latents, Tensor) and latents.ndim == 5 else (0, 0, 0)))
        yield _Field(f"latents['{name}']", latents, size, numbers, "rows, frames, channels, height, width")
    for frames, images, name in (
        (len(window.observed), seen.images, "images"),
        (len(window.future), batch.future, "future"),
    ):
        for camera in spaces.cameras if frames and not batch.latents else ():
            size = (rows, frames, 3, camera.height, camera.width)
            held = images.get(camera.name) if isinstance(images, dict) else None
            yield _Field(f"{name}['{camera.name}']", held, size, torch.uint8, "rows, frames, colours, height, width")
    if window.future:
        yield _Field("future_mask", batch.future_mask, (rows, len(window.future)), flags, "rows, frames")
    if window.horizon:
        yield _Field("action_mask", batch.action_mask, (rows, window.horizon), flags, "rows, actions")
        shape = (rows, window.horizon, spaces.actions.dim)
        yield _Field("actions", batch.actions, shape, numbers, "rows, actions, dimensions")
    if window.past_actions:
        shape = (rows, window.past_actions, spaces.actions.dim)
        yield _Field("past_actions", seen.past_actions, shape, numbers, "rows, actions, dimensions")
    if spaces.state is None:
        return
    width = spaces.state.dim
    yield _Field("state", seen.state, (rows, len(window.observed), width), numbers, "rows, frames, dimensions")
    if later := len(window.future_states):
        yield _Field("future_state_mask", batch.future_state_mask, (rows, later), flags, "rows, states")
        yield _Field("future_state", batch.future_state, (rows, later, width), numbers, "rows, states, dimensions")
