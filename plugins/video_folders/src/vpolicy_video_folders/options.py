"""What a recipe can say of folders of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from videopolicy.parts.options import Options

Size = Annotated[int, Field(ge=8, le=4096)]


class VideoOptions(Options):
    """Options of all folders of videos.

    Args:
        path: The folder.
        sampling: Which frames a window has. ``steps``: a frame of the video is an environment step, windows begin at
            every ``window_stride``-th frame, and past the end the last frame is repeated. ``whole-clip``: the window is
            stretched over the whole video, one window each, as VPP's official loader does with Something-Something,
            Bridge and RT-1 (``video_dataset/dataset_mix.py``: ``linspace(0, n - 1, 16)``, rounded down).
        longest: Videos of more frames are left out where they are sampled as whole clips, as in VPP's official loader;
            None leaves out none.
        window_stride: Where ``sampling`` is ``steps``, windows begin at every so many frames; VPP's official
            loader has 2.
        image_size: Height and width to which frames are brought when they are read (bilinear, with antialiasing), since
            the videos of one folder may differ.
        memory_limit: Frames are decoded once and kept in memory when all of them take less than this many gibibytes at
            ``image_size``, else every batch decodes its own.
    """

    path: Path
    sampling: Literal["steps", "whole-clip"] = "steps"
    longest: int | None = Field(default=100, ge=1)
    window_stride: int = Field(default=2, ge=1)
    image_size: tuple[Size, Size] = (256, 256)
    memory_limit: float = Field(default=2.0, ge=0)


class VppVideosOptions(VideoOptions):
    """Options of `vpp-videos`.

    Args:
        cameras: Recipe's camera name to number in the annotations' list ``videos``, counted from 0.
        frames: ``videos`` are decoded. ``latents``: those that VPP publishes in place of videos are read, one file a
            camera (``latent_videos``: float32 of (frames, 4, 32, 32), drawn from the posterior and multiplied by
            0.18215). They do not say what made them: the model has to have Stable Video Diffusion's autoencoder.
        training, validation: Folders of annotations, relative to ``path``; no validation for None. VPP's CALVIN has
            ``annotation_abc_13/train`` and ``annotation_abc_13/val_d``.
    """

    cameras: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=lambda: {"video": 0}, min_length=1)
    frames: Literal["videos", "latents"] = "videos"
    training: str = "annotation/train"
    validation: str | None = "annotation/val"


class CaptionedVideosOptions(VideoOptions):
    """Options of `captioned-videos`.

    Args:
        videos: Folder of the videos, relative to ``path``: ``<id>.webm`` or ``<id>.mp4``.
        labels, validation_labels: Lists of videos with their captions, relative to ``path``; no validation for None.
    """

    sampling: Literal["steps", "whole-clip"] = "whole-clip"
    videos: str = "20bn-something-something-v2"
    labels: str = "labels/train.json"
    validation_labels: str | None = "labels/validation.json"
