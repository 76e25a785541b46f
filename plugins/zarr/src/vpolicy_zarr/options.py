"""What a recipe can say of a replay buffer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from videopolicy import ActionSpace
from videopolicy.parts.options import Options


class ReplayBufferZarrOptions(Options):
    """Options of `replay-buffer-zarr`.

    Args:
        path: A zarr folder, or a ``.zarr.zip``.
        cameras: Recipe's camera name to key under ``data``, in the order of the views.
        state: Name of every dimension of the proprioception to key under ``data`` and column, counted from 0.
        action: Key of the actions under ``data``.
        actions: What they mean.
        instruction: The sentence of the task.
        validation: Fraction of the episodes that is held out.
        action_padding: Actions past the end of an episode. ``mask`` leaves them out of the loss; ``repeat`` trains on
            the last action again and again, as the official codes of Diffusion Policy and Unified Video Action Model do
            (``common/sampler.py``, ``pad_after``).
        window_stride: Windows begin at every so many steps of an episode.
        memory_limit: Gibibytes of images (as bytes) up to which they are held in memory.
    """

    path: Path
    cameras: dict[str, str] = Field(min_length=1)
    state: dict[str, tuple[str, int]] = Field(default_factory=dict)
    action: str = "action"
    actions: ActionSpace
    instruction: str = Field(min_length=1)
    validation: float = Field(default=0.0, ge=0, lt=1)
    action_padding: Literal["mask", "repeat"] = "mask"
    window_stride: int = Field(default=1, ge=1)
    memory_limit: float = Field(default=2.0, ge=0)
