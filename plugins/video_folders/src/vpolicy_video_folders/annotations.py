"""Recordings in VPP's layout: one annotation each, which names a sentence and the videos of its cameras.

Of an annotation (github.com/roboterax/video-prediction-policy, 75cf37ad, ``video_dataset/dataset_mix.py``) ``texts``
and ``videos`` are read. It may hold states and actions, which differ from set to set and teach a video model nothing.
"""

from __future__ import annotations

from pathlib import Path

from videopolicy import DataError
from videopolicy.parts.files import ensure_data
from videopolicy.parts.windows import TRAIN, VALIDATION
from vpolicy_video_folders.clips import DOWNLOAD, Clip, Found, clip, read_json
from vpolicy_video_folders.options import VppVideosOptions


def read_annotations(options: VppVideosOptions) -> Found:
    """All recordings of a folder.

    Raises:
        DataError: Naming the annotation of what is wrong, or the folder that has none.
    """
    ensure_data(options.path)
    files = {TRAIN: _files(options, options.training)}
    if not files[TRAIN]:
        raise DataError(
            f"There are no annotations in {options.path / options.training}, so there is no video to be read.",
            "Name the folder that holds `annotation` in `path`, and that of the annotations (*.json) in `training`.",
        )
    absent = ""
    if options.validation is not None:
        if held_out := _files(options, options.validation):
            files[VALIDATION] = held_out
        else:
            absent = f"there are no annotations in {options.path / options.validation}"
    clips = {split: [_clip(options, file) for file in found] for split, found in files.items()}
    return Found(clips, tuple(file for found in files.values() for file in found), absent)


def _files(options: VppVideosOptions, folder: str) -> list[Path]:
    return sorted((options.path / folder).glob("*.json"))


def _clip(options: VppVideosOptions, file: Path) -> Clip:
    content = read_json(file)
    texts = content.get("texts") if isinstance(content, dict) else None
    listed, key = ("videos", "video_path") if options.frames == "videos" else ("latent_videos", "latent_video_path")
    videos = content.get(listed) if isinstance(content, dict) else None
    if not isinstance(videos, list) or not videos:
        raise DataError(f"{file} names no `{listed}`.", DOWNLOAD)
    named = [one.get(key) if isinstance(one, dict) else None for one in videos]
    chosen = []
    for camera, number in options.cameras.items():
        if number >= len(named):
            raise DataError(
                f"{file} names {len(named)} videos, so there is none of number {number} for camera '{camera}' (they "
                "are counted from 0).",
                "Correct `cameras` in the recipe's data section.",
            )
        path = named[number]
        if not isinstance(path, str) or not path:
            raise DataError(f"{file} names no `{key}` for its video of number {number}.", DOWNLOAD)
        chosen.append(_there(options.path, path))
    first = texts[0] if isinstance(texts, list) and texts else None  # the official loader reads the first one
    return clip(first, tuple(chosen), file, file.relative_to(options.path).as_posix())


def _there(root: Path, name: str) -> Path:
    """A file that an annotation names. Some sets have their latents in a folder of another name, where the official
    loader looks next."""
    path, other = root / name, root / name.replace("latent_videos", "latent_videos_svd")
    return other if not path.is_file() and other.is_file() else path
