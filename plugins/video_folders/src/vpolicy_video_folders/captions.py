"""Recordings in the layout of Something-Something v2: a list of ids with captions, and one video an id."""

from __future__ import annotations

from pathlib import Path

from videopolicy import DataError
from videopolicy.parts.files import ensure_data
from videopolicy.parts.windows import TRAIN, VALIDATION
from vpolicy_video_folders.clips import DOWNLOAD, Clip, Found, clip, read_json
from vpolicy_video_folders.options import CaptionedVideosOptions

ENDINGS = (".webm", ".mp4")


def read_captions(options: CaptionedVideosOptions) -> Found:
    """All recordings of a folder.

    Raises:
        DataError: Naming the list and the id of what is wrong, or the folder that has no list.
    """
    ensure_data(options.path)
    lists = {TRAIN: options.path / options.labels}
    if not lists[TRAIN].is_file():
        raise DataError(
            f"There is no list of captions {lists[TRAIN]}, so there is no video to be read.",
            "Name the folder that holds the labels and the videos in `path`, and the list in `labels`.",
        )
    absent = ""
    if options.validation_labels is not None:
        held_out = options.path / options.validation_labels
        if held_out.is_file():
            lists[VALIDATION] = held_out
        else:
            absent = f"there is no {held_out}"
    clips = {split: _clips(options, file) for split, file in lists.items()}
    return Found(clips, tuple(lists.values()), absent)


def _clips(options: CaptionedVideosOptions, file: Path) -> list[Clip]:
    content = read_json(file)
    if not isinstance(content, list) or not content:
        raise DataError(f"{file} is no list of videos with `id` and `label`.", DOWNLOAD)
    name = file.relative_to(options.path).as_posix()
    folder = options.path / options.videos
    found = []
    for number, entry in enumerate(content):
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, str | int) or not str(key) or "/" in str(key):
            raise DataError(f"{file}, entry {number}: {entry!r} has no `id` that names a video.", DOWNLOAD)
        places = [folder / f"{key}{ending}" for ending in ENDINGS]
        video = next((path for path in places if path.is_file()), places[0])
        found.append(clip(entry.get("label"), (video,), file, f"{name}, id {key}"))
    return found
