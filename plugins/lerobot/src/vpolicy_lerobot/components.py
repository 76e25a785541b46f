"""What a recipe can name; everything heavy is imported in ``build``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from videopolicy import Component, DataError, DatasetComponent, DeclaredSpaces, Spaces, hookimpl
from vpolicy_lerobot.options import LeRobotOptions

if TYPE_CHECKING:
    from videopolicy import Dataset, EpisodeWriter


class LeRobotV3(LeRobotOptions, DatasetComponent):
    """Episodes in LeRobot's dataset format v3.0 (many episodes a file) or v2.1 and v2.0 (one).

    Numbers lie in parquet files, cameras in videos or as pictures in the parquet files, and ``meta/`` says what they
    are. Which version it is stands in ``meta/info.json``. Data that were written by ``vpolicy data export`` also say
    what their actions mean.

    See `LeRobotOptions` for the options.
    """

    type: Literal["lerobot-v3"] = "lerobot-v3"

    def declared(self) -> DeclaredSpaces:
        from vpolicy_lerobot.described import camera_features, read_info, read_mark, state_columns

        try:
            info = read_info(self.path)
            mark = read_mark(self.path)
            cameras, columns = camera_features(info, self.cameras), state_columns(info, self.state)
        except DataError:  # what is missing or damaged is said when the data are opened
            return DeclaredSpaces(cameras=tuple(self.cameras) or None, actions=self.actions)
        return DeclaredSpaces(
            cameras=tuple(cameras),
            actions=self.actions or (mark.spaces.actions if mark else None),
            state=None if not columns else columns.space,
            orientation=self.orientation or (mark.orientation if mark else "upright"),
        )

    def build(self, folder: Path | None) -> Dataset:
        from vpolicy_lerobot.dataset import LeRobotDataset

        return LeRobotDataset(self)

    def writer(self, folder: Path, spaces: Spaces) -> EpisodeWriter:
        from vpolicy_lerobot.writer import LeRobotWriter

        return LeRobotWriter(folder, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [LeRobotV3]
