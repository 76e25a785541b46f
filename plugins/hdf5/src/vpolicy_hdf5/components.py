"""What a recipe can name; everything heavy is imported in ``build``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from videopolicy import (
    ActionSpace,
    Component,
    DataError,
    DatasetComponent,
    DemonstrationRequest,
    Spaces,
    hookimpl,
)

if TYPE_CHECKING:
    from videopolicy import Dataset, EpisodeWriter


class RobomimicHDF5(DatasetComponent):
    """Episodes in the HDF5 layout of robomimic (Mandlekar et al. 2021), which LIBERO and RoboCasa use too.

    ``data/demo_k`` holds ``actions`` and ``obs/<key>``; a file may hold one task or a folder one file per task.
    Files that were collected here also say what their cameras, state and actions mean.

    Args:
        path: An HDF5 file, or a folder that is searched for ``*.hdf5``; None: the benchmark's experts are asked
            for demonstrations.
        episodes_per_task: How many to collect of every task (50 when left out), or to read at most (all).
        action_noise: For collection: see `DemonstrationRequest`.
        cameras: Recipe's camera name to key under ``obs``, in the order of the views. Left out: every image key,
            called by its name without the ending ``_image`` or ``_rgb``.
        state: Keys under ``obs`` that make up the proprioception, in this order; its dimensions are called
            ``key_0``, ``key_1`` and so on. Left out: the recorded state of collected files, none of others.
        orientation: ``bottom-up`` where the files hold robosuite's raw images (LIBERO): they are flipped
            vertically. Everyone else stores them upright.
        actions: What the actions mean. Needed for files that were not collected here.
        instructions: Task to sentence, for files that hold none; it wins over what they hold.
        validation: Fraction of every task's episodes that is held out; None: what the files' own ``mask/valid``
            says, if anything.
        window_stride: Training windows begin at every n-th step of an episode. Neighbouring steps look nearly the
            same at high control rates; VPP's official loader takes every second one of videos.
        memory_limit: Images are kept in memory when all of them take less than this many gibibytes, else every
            batch reads its frames from disk.
    """

    type: Literal["robomimic-hdf5"] = "robomimic-hdf5"
    path: Path | None = None
    episodes_per_task: int | None = Field(default=None, gt=0)
    action_noise: float = Field(default=0.0, ge=0)
    cameras: dict[str, str] = Field(default_factory=dict)
    state: tuple[str, ...] = ()
    orientation: Literal["upright", "bottom-up"] = "upright"
    actions: ActionSpace | None = None
    instructions: dict[str, str] = Field(default_factory=dict)
    validation: float | None = Field(default=None, ge=0, lt=1)
    window_stride: int = Field(default=1, ge=1)
    memory_limit: float = Field(default=2.0, ge=0)

    @model_validator(mode="after")
    def _noise_is_for_collecting(self) -> RobomimicHDF5:
        if self.path is not None and self.action_noise:
            raise ValueError("'action_noise' has no effect on the existing data that 'path' names; remove one of them")
        return self

    def demonstrations(self) -> DemonstrationRequest | None:
        if self.path is not None:
            return None
        count = {} if self.episodes_per_task is None else {"episodes_per_task": self.episodes_per_task}
        return DemonstrationRequest(action_noise=self.action_noise, **count)

    def build(self, folder: Path | None) -> Dataset:
        from vpolicy_hdf5.dataset import HDF5Dataset

        path = self.path or folder
        if path is None:
            raise DataError(
                "The dataset names no path and nothing has been collected.",
                "Set `path` to an HDF5 file or folder, or name a benchmark whose experts can be asked.",
            )
        return HDF5Dataset(path, self)

    def writer(self, folder: Path, spaces: Spaces) -> EpisodeWriter:
        from vpolicy_hdf5.writer import HDF5Writer

        return HDF5Writer(folder, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [RobomimicHDF5]
