"""What a recipe can name; everything heavy is imported when data are opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from videopolicy import NO_ACTIONS, Component, DatasetComponent, DeclaredSpaces, hookimpl
from vpolicy_video_folders.options import CaptionedVideosOptions, VppVideosOptions

if TYPE_CHECKING:
    from videopolicy import Dataset, Reporter

CAMERA = "video"
"""The only one of captioned videos."""


class VppVideos(VppVideosOptions, DatasetComponent):
    """Videos in the layout in which VPP publishes them (``annotation/*/*.json`` that name a sentence and videos).

    See `VppVideosOptions` for the options.
    """

    type: Literal["vpp-videos"] = "vpp-videos"

    def declared(self) -> DeclaredSpaces:
        return DeclaredSpaces(cameras=tuple(self.cameras), actions=NO_ACTIONS)

    def build(self, folder: Path | None) -> Dataset:
        from vpolicy_video_folders.annotations import read_annotations
        from vpolicy_video_folders.dataset import VideoDataset

        return VideoDataset(self, tuple(self.cameras), read_annotations(self), self.frames == "latents")

    def open(self, folder: Path | None, cache: Path, reporter: Reporter) -> Dataset:
        from vpolicy_video_folders.annotations import read_annotations
        from vpolicy_video_folders.dataset import VideoDataset

        found, latents = read_annotations(self), self.frames == "latents"
        return VideoDataset(self, tuple(self.cameras), found, latents, cache, reporter)


class CaptionedVideos(CaptionedVideosOptions, DatasetComponent):
    """Videos with captions in the layout of Something-Something v2 (Goyal et al. 2017): ``labels/*.json`` with ``id``
    and ``label``, and one video an id.

    See `CaptionedVideosOptions` for the options.
    """

    type: Literal["captioned-videos"] = "captioned-videos"

    def declared(self) -> DeclaredSpaces:
        return DeclaredSpaces(cameras=(CAMERA,), actions=NO_ACTIONS)

    def build(self, folder: Path | None) -> Dataset:
        from vpolicy_video_folders.captions import read_captions
        from vpolicy_video_folders.dataset import VideoDataset

        return VideoDataset(self, (CAMERA,), read_captions(self))

    def open(self, folder: Path | None, cache: Path, reporter: Reporter) -> Dataset:
        from vpolicy_video_folders.captions import read_captions
        from vpolicy_video_folders.dataset import VideoDataset

        return VideoDataset(self, (CAMERA,), read_captions(self), False, cache, reporter)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [VppVideos, CaptionedVideos]
