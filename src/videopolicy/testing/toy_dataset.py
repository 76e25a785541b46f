"""The toy dataset: demonstrations that a benchmark's expert gives, in one .npz file an episode.

With it a recipe on the toy benchmark needs nothing but the core.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from videopolicy.components.hookspecs import hookimpl
from videopolicy.components.kinds import Component, DatasetComponent, DemonstrationRequest
from videopolicy.spaces import Spaces

if TYPE_CHECKING:
    from videopolicy.contracts.dataset import Dataset, EpisodeWriter


class ToyDataset(DatasetComponent):
    """Demonstrations of any benchmark's expert, kept in memory while they are read.

    Args:
        episodes_per_task: Successful episodes to keep of every task.
        action_noise: Standard deviation of the noise on executed actions, which shows how errors are corrected.
        validation: Fraction of every task's episodes that is held out.
    """

    type: Literal["toy"] = "toy"
    episodes_per_task: int = Field(20, ge=1)
    action_noise: float = Field(0.0, ge=0)
    validation: float = Field(0.1, ge=0, lt=1)

    def demonstrations(self) -> DemonstrationRequest:
        return DemonstrationRequest(episodes_per_task=self.episodes_per_task, action_noise=self.action_noise)

    def build(self, folder: Path | None) -> Dataset:
        from videopolicy.testing.toy_episodes import ToyEpisodes

        assert folder is not None
        return ToyEpisodes(folder, self.validation)

    def writer(self, folder: Path, spaces: Spaces) -> EpisodeWriter:
        from videopolicy.testing.toy_episodes import ToyWriter

        return ToyWriter(folder, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [ToyDataset]
