"""What a recipe can say of a LeRobot dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from videopolicy import ActionSpace
from videopolicy.parts.options import Options

Column = Annotated[int, Field(ge=0)]


class LeRobotOptions(Options):
    """Options of `lerobot-v3`.

    Args:
        path: The folder that holds ``meta/info.json``.
        cameras: Recipe's camera name to feature, in the order of the views. Left out: every colour camera, called by
            its feature's name without ``observation.images.``.
        state: Name of every dimension of the proprioception to feature and column, counted from 0. Left out: all
            columns of ``observation.state``, as the data call them.
        action: Feature of the actions.
        action_dimensions: Columns of it that ``actions`` describes, counted from 0; left out: all of them.
        actions: What they mean. Needed for data that were not written by ``vpolicy data export``.
        orientation: Of the images as they are stored: ``mirrored`` where robosuite's were turned by 180 degrees, as the
            LIBERO datasets of OpenVLA, openpi and LeRobot are.
        instructions: Task, as the data have it, to the sentence that a policy is conditioned on; for tasks that are no
            sentences.
        validation: Fraction of every task's episodes that is held out; None: what ``splits`` of ``meta/info.json``
            calls ``validation`` or ``val``, if anything.
        tolerance: Seconds by which timestamps may differ from the frame rate; LeRobot's ``tolerance_s``, and its
            default.
        action_padding: Actions past the end of an episode. ``mask`` leaves them out of the loss; ``repeat`` trains on
            the last action again and again, as the official codes of Diffusion Policy and Unified Video Action Model do
            (``common/sampler.py``, ``pad_after``).
        window_stride: Windows begin at every so many steps of an episode.
        memory_limit: Gibibytes of decoded images up to which they are held in memory.
    """

    path: Path
    cameras: dict[str, str] = Field(default_factory=dict)
    state: dict[str, tuple[str, Column]] = Field(default_factory=dict)
    action: str = "action"
    action_dimensions: tuple[Column, ...] = ()
    actions: ActionSpace | None = None
    orientation: Literal["upright", "mirrored"] | None = None
    instructions: dict[str, str] = Field(default_factory=dict)
    validation: float | None = Field(default=None, ge=0, lt=1)
    tolerance: float = Field(default=1e-4, gt=0)
    action_padding: Literal["mask", "repeat"] = "mask"
    window_stride: int = Field(default=1, ge=1)
    memory_limit: float = Field(default=2.0, ge=0)
