"""What a recipe can name; everything heavy is imported in ``build``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from videopolicy import (
    Component,
    DataError,
    DatasetComponent,
    DeclaredSpaces,
    DemonstrationRequest,
    Spaces,
    hookimpl,
)
from vpolicy_hdf5.options import RobomimicHDF5Options

if TYPE_CHECKING:
    from videopolicy import Dataset, Episode, EpisodeWriter


class RobomimicHDF5(RobomimicHDF5Options, DatasetComponent):
    """Episodes in the HDF5 layout of robomimic (Mandlekar et al. 2021), which LIBERO and RoboCasa use too.

    ``data/demo_k`` holds ``actions`` and ``obs/<key>``; a file may hold one task or a folder one file per task.
    Files that were collected here also say what their cameras, state and actions mean.

    See `RobomimicHDF5Options` for the options.
    """

    type: Literal["robomimic-hdf5"] = "robomimic-hdf5"

    def demonstrations(self) -> DemonstrationRequest | None:
        if self.path is not None:
            return None
        count = {} if self.episodes_per_task is None else {"episodes_per_task": self.episodes_per_task}
        return DemonstrationRequest(action_noise=self.action_noise, **count)

    def declared(self) -> DeclaredSpaces:
        said = DeclaredSpaces(cameras=tuple(self.cameras) or None, actions=self.actions)
        if self.path is None or not self.path.exists():
            return said
        from vpolicy_hdf5.declared import declared_by

        return declared_by(self.path, self, said)

    def build(self, folder: Path | None) -> Dataset:
        from vpolicy_hdf5.dataset import HDF5Dataset

        return HDF5Dataset(self._place(folder), self)

    def episodes(self, folder: Path | None) -> list[Episode]:
        from vpolicy_hdf5.replayable import replayable_episodes

        return replayable_episodes(self._place(folder), self)

    def _place(self, folder: Path | None) -> Path:
        path = self.path or folder
        if path is None:
            raise DataError(
                "The dataset names no path and nothing has been collected.",
                "Set `path` to an HDF5 file or folder, or name a benchmark whose experts can be asked.",
            )
        return path

    def writer(self, folder: Path, spaces: Spaces) -> EpisodeWriter:
        from vpolicy_hdf5.writer import HDF5Writer

        return HDF5Writer(folder, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [RobomimicHDF5]
