"""Videos as training windows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videopolicy import NO_ACTIONS, Camera, DataError, Dataset, FieldStatistics, Spaces, Statistics, Window, Windows
from videopolicy.parts.windows import TRAIN, require_split
from vpolicy_video_folders.clips import Clip, Found
from vpolicy_video_folders.lengths import count_all
from vpolicy_video_folders.options import VideoOptions
from vpolicy_video_folders.windows import ClipWindows, DecodedFrames, Frames, FramesOnDisk, LatentsOnDisk

if TYPE_CHECKING:
    from videopolicy import Reporter


class VideoDataset(Dataset):
    """Every video is decoded once when the data are first opened: that finds damage, and how long it is.

    Args:
        options: What the recipe says.
        cameras: Names of the views.
        found: The recordings.
        latents: Whether their files hold latents in place of videos.
        cache: Where lengths are remembered; None remembers nothing.
        reporter: Shows progress.

    Raises:
        DataError: Naming the video that cannot be decoded, or nothing is left to train on.
    """

    def __init__(
        self,
        options: VideoOptions,
        cameras: tuple[str, ...],
        found: Found,
        latents: bool = False,
        cache: Path | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self._options, self._found = options, found
        self._latents = latents
        height, width = options.image_size
        views = tuple(Camera(name=name, height=height, width=width) for name in cameras)
        self._spaces = Spaces(cameras=views, actions=NO_ACTIONS)
        counts = self._counts(cache, reporter)
        self._clips: dict[str, list[Clip]] = {}
        self._lengths: dict[str, np.ndarray] = {}
        self._left_out = 0
        for split, clips in found.clips.items():
            lengths = [min(counts[video] for video in one.videos) for one in clips]
            kept = [number for number, length in enumerate(lengths) if not self._is_too_long(length)]
            self._left_out += len(clips) - len(kept)
            self._clips[split] = [clips[number] for number in kept]
            self._lengths[split] = np.array([lengths[number] for number in kept], np.int64)
        if not self._clips[TRAIN]:
            raise DataError(
                f"All {len(found.clips[TRAIN])} videos of {options.path} have more than {options.longest} frames, so "
                "none is left to train on.",
                "Raise `longest` in the data section, or set `sampling: steps`, which cuts windows from long videos.",
            )
        self._frames: dict[str, Frames] = {}

    def _counts(self, cache: Path | None, reporter: Reporter | None) -> dict[Path, int]:
        videos = sorted({video for clips in self._found.clips.values() for one in clips for video in one.videos})
        if reporter is None:
            return count_all(self._options.path, videos, cache)
        with reporter.activity(f"decode the videos of {self._options.path} once", len(videos)) as progress:
            return count_all(self._options.path, videos, cache, progress.advance)

    def _is_too_long(self, length: int) -> bool:
        whole, longest = self._options.sampling == "whole-clip", self._options.longest
        return whole and longest is not None and length > longest

    @property
    def spaces(self) -> Spaces:
        return self._spaces

    @property
    def encoder(self) -> str | None:
        return "" if self._latents else None

    @property
    def remarks(self) -> tuple[str, ...]:
        found = [f"{self._found.absent}: there is no split `validation`"] if self._found.absent else []
        if self._left_out:
            total = sum(map(len, self._found.clips.values()))
            found.append(
                f"{self._left_out} of {total} videos of {self._options.path} have more than {self._options.longest} "
                "frames and are left out (`longest`)"
            )
        changed = [one for clips in self._clips.values() for one in clips if one.changed]
        if changed:
            found.append(
                f"the sentences of {len(changed)} videos are not stored as plain text ({changed[0].changed}), such as "
                f"'{changed[0].text}' of {changed[0].place}"
            )
        return tuple(found)

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(clips) for split, clips in self._clips.items() if clips or split == TRAIN}

    def fingerprint(self, actions: bool = True) -> str:
        chosen = self._options.model_dump_json(include={"sampling", "longest", "window_stride", "frames"})
        content = hashlib.sha256(f"{self._spaces.model_dump_json()}{chosen}".encode())
        for split, clips in self._clips.items():
            content.update(f"\n{split}".encode())
            for one, length in zip(clips, self._lengths[split], strict=True):
                sizes = [video.stat().st_size for video in one.videos]
                content.update(f"\n{one.place}\n{one.text}\n{length} {sizes}".encode())
        return content.hexdigest()

    def files(self) -> tuple[Path, ...]:
        videos = {video for clips in self._clips.values() for one in clips for video in one.videos}
        return (*self._found.files, *sorted(videos))

    def statistics(self) -> Statistics:
        return Statistics(actions=FieldStatistics([], [], [], []))

    def windows(self, window: Window, split: str = TRAIN) -> Windows:
        require_split(split, self.splits, "Name the annotations of the videos that are held out in the data section.")
        clips, lengths, cameras = self._clips[split], self._lengths[split], self._spaces.cameras
        if split not in self._frames:
            self._frames[split] = self._read(clips, lengths)
        stride = None if self._options.sampling == "whole-clip" else self._options.window_stride
        return ClipWindows(window, clips, lengths, [camera.name for camera in cameras], self._frames[split], stride)

    def _read(self, clips: list[Clip], lengths: np.ndarray) -> Frames:
        """Where frames come from: memory, where it can hold them."""
        files, cameras = [one.videos for one in clips], self._spaces.cameras
        if self._latents:
            return LatentsOnDisk(files)
        frames = FramesOnDisk(files, self._options.image_size)
        size = int(lengths.sum()) * sum(camera.height * camera.width * 3 for camera in cameras)
        small = size <= self._options.memory_limit * 2**30
        return DecodedFrames(frames, len(cameras), lengths) if small else frames

    def initial_states(self) -> frozenset[str]:
        """Videos do not say what a simulator could be reset to."""
        return frozenset()
