"""What a recipe can name; everything heavy is imported in ``build``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from videopolicy import Component, DatasetComponent, DeclaredSpaces, StateSpace, hookimpl
from vpolicy_zarr.options import ReplayBufferZarrOptions

if TYPE_CHECKING:
    from videopolicy import Dataset


class ReplayBufferZarr(ReplayBufferZarrOptions, DatasetComponent):
    """Episodes in Diffusion Policy's replay buffer (Chi et al. 2023).

    All episodes of one task lie one after the other (``common/replay_buffer.py`` of its code): ``data/<key>`` holds
    what was recorded at every step, and ``meta/episode_ends`` where each episode ends.

    See `ReplayBufferZarrOptions` for the options.
    """

    type: Literal["replay-buffer-zarr"] = "replay-buffer-zarr"

    def declared(self) -> DeclaredSpaces:
        state = StateSpace(names=tuple(self.state)) if self.state else None
        return DeclaredSpaces(cameras=tuple(self.cameras), actions=self.actions, state=state)

    def build(self, folder: Path | None) -> Dataset:
        from vpolicy_zarr.dataset import ReplayBufferDataset

        return ReplayBufferDataset(self)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [ReplayBufferZarr]
