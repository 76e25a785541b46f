"""What a recipe can say of CALVIN's recordings, and the cameras, which the benchmark has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from videopolicy.parts.catalogue import checked, different_cameras
from videopolicy.parts.options import Options

CameraName = Literal["rgb_static", "rgb_gripper"]
Cameras = Annotated[tuple[CameraName, ...], checked(different_cameras)]


class CalvinNpzOptions(Options):
    """Options of `calvin-npz`.

    Args:
        path: The folder that holds ``training`` and ``validation``, such as ``task_ABC_D``; None: the benchmark's
            experts are asked for demonstrations, which are written in the same layout.
        episodes_per_task: For collection: how many of every task.
        action_noise: For collection: see `DemonstrationRequest`.
        cameras: Cameras in the order of the views.
        annotations: Folder of the annotations inside ``training`` and ``validation``. The data set comes with several
            that differ in the embeddings of the sentences, which nobody reads here.
        share: Share of every task's segments that is learned from, chosen by a hash of where they lie (0.1 in the data
            efficiency of Hu et al. 2024, Table 1, who do not say how they chose).
        steps_ahead: Windows with actions begin only where at least so many further steps of the segment follow. VPP's
            code has 21 (``min_window_size`` in ``datasets/disk_dataset.py``), so that the last 21 frames of a
            segment are never a present one. Clips of video alone begin everywhere.
        window_stride: Training windows, those of video too, begin at every n-th step of a segment. Neighbouring steps
            look nearly the same at 30 Hz; VPP's code takes every second one of videos.
        memory_limit: Images are kept in memory when all of them take less than this many gibibytes, else every
            batch reads its frames from disk.
    """

    path: Path | None = None
    episodes_per_task: int | None = Field(None, gt=0)
    action_noise: float = Field(0.0, ge=0)
    cameras: Cameras = Field(get_args(CameraName), min_length=1)
    annotations: str = Field("lang_annotations", min_length=1)
    share: float = Field(1.0, gt=0, le=1)
    steps_ahead: int = Field(0, ge=0)
    window_stride: int = Field(1, ge=1)
    memory_limit: float = Field(2.0, ge=0)

    @model_validator(mode="after")
    def _some_options_are_for_collecting(self) -> CalvinNpzOptions:
        for name in ("episodes_per_task", "action_noise"):
            if self.path is not None and getattr(self, name):
                raise ValueError(f"'{name}' has no effect on the existing data that 'path' names; remove one of them")
        return self
