"""What a recipe can name; everything heavy is imported when data are opened or written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from videopolicy import NO_ACTIONS, Component, DatasetComponent, DeclaredSpaces, hookimpl

if TYPE_CHECKING:
    from videopolicy import Dataset, LatentWriter


class EncodedClips(DatasetComponent):
    """Latents and sentences in litdata's shards, as ``vpolicy data encode`` writes them; no pictures and no actions.

    Args:
        path: A folder that was encoded: that of a part, where a mixture was.
        shuffled_shards: Windows are shuffled among so many shards at a time, which themselves are shuffled: what is
            read next lies together, and a cache need hold no more. 0: among all of them.
    """

    type: Literal["encoded-clips"] = "encoded-clips"
    path: Path
    shuffled_shards: int = Field(default=16, ge=0)

    def declared(self) -> DeclaredSpaces:
        return DeclaredSpaces(actions=NO_ACTIONS)

    def build(self, folder: Path | None) -> Dataset:
        from vpolicy_encoded_clips.dataset import EncodedDataset

        return EncodedDataset(self.path, self.shuffled_shards)

    def latent_writer(self, folder: Path) -> LatentWriter:
        from vpolicy_encoded_clips.writer import ShardWriter

        return ShardWriter(folder)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [EncodedClips]
