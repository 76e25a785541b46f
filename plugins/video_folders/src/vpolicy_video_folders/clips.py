"""What is known of the recordings of a folder before a video is opened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopolicy import DataError
from videopolicy.parts.files import ensure_data, system_reason
from videopolicy.parts.sentences import read_sentence

DOWNLOAD = "Download this part of the data again, or unpack it completely."


@dataclass(frozen=True)
class Clip:
    """One recording.

    Args:
        text: The sentence that describes it.
        videos: Files of its cameras, in their order.
        place: Where this is written, for messages and fingerprints, relative to the folder.
        changed: How the sentence was made from what is stored; empty where it is stored as one.
    """

    text: str
    videos: tuple[Path, ...]
    place: str
    changed: str = ""


@dataclass(frozen=True)
class Found:
    """The recordings of a folder.

    Args:
        clips: By split, ``train`` first.
        files: Those that name them.
        absent: What is not there of the validation split; empty where it is, or where none is wanted.
    """

    clips: dict[str, list[Clip]]
    files: tuple[Path, ...]
    absent: str = ""


def clip(text: object, videos: tuple[Path, ...], file: Path, place: str) -> Clip:
    """A recording whose sentence and videos are there.

    Args:
        text: As it is stored; None where it is missing.
        videos: Files of its cameras.
        file: Where it is written.
        place: The same relative to the folder, with the entry where one file has many.

    Raises:
        DataError: It has no sentence, or a video is missing.
    """
    where = f"{file}{place[place.index(',') :] if ',' in place else ''}"
    sentence = read_sentence(text, where)
    if not sentence.text:
        raise DataError(f"{where} has no text, so nothing says what its video shows.", "Add a sentence, or remove it.")
    for video in videos:
        if not video.is_file():
            raise DataError(f"{where} names the video {video}, which is not there.", DOWNLOAD)
    return Clip(sentence.text, videos, place, sentence.changed)


def read_json(file: Path) -> Any:
    """What a file of annotations holds.

    Raises:
        DataError: It cannot be read, or is no JSON.
    """
    ensure_data(file)
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        reason, hint = system_reason(error.errno) or (str(error.strerror), "Make it readable.")
        raise DataError(f"{file} cannot be read: {reason}.", hint) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged or no JSON: {error}.", DOWNLOAD) from error
