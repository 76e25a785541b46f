"""The index of files that were made for a report, so that a rerun makes only what is missing or has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from videopolicy.errors import StorageError
from videopolicy.outcomes.records import SubtaskRecord
from videopolicy.storage.files import write_json
from videopolicy.storage.integrity import Stamp, read_mapping, stamp

Index = dict[str, dict[str, Any]]
"""Facts by name; ``key`` among them identifies what the files show."""


class FilmFacts(BaseModel):
    """What an index says about the film of an episode.

    Args:
        task: Of the episode.
        episode: Its number.
        success: How it ended.
        steps: Environment steps.
        control_rate: Of the environment, in Hz.
        differences: How the replay differs from the record.
        instruction: The sentence with which the episode began; empty where it was not recorded.
        subtasks: Of a chain, those that were begun.
    """

    task: str
    episode: int
    success: bool
    steps: NonNegativeInt
    control_rate: PositiveFloat
    differences: str = ""
    instruction: str = ""
    subtasks: tuple[SubtaskRecord, ...] = ()


class ComparedFilmFacts(FilmFacts):
    """What the index of a comparison says about a film.

    Args:
        method: Whose film it is.
        initial_state: Hash of the state in which the episode began.
    """

    method: str
    initial_state: str


class ForecastFacts(BaseModel):
    """What an index says about a predicted future.

    Args:
        task: Of the episode.
        episode: Its number.
        success: How it ended.
        now: Step from which the future was predicted.
        shown: Offsets of the frames in the picture, in steps.
        height: Of a frame, in pixels.
        width: Of a frame, in pixels.
        psnr: Of the prediction, in dB.
        psnr_still: Of repeating the present frame, in dB.
    """

    task: str
    episode: int
    success: bool
    now: int
    shown: tuple[int, ...]
    height: PositiveInt
    width: PositiveInt
    psnr: float
    psnr_still: float


Facts = TypeVar("Facts", FilmFacts, ComparedFilmFacts, ForecastFacts)


def read_index(path: Path) -> Index:
    """Read an index; an absent or damaged one is empty."""
    try:
        return _read(path)
    except StorageError:
        return {}


def showable(
    path: Path, root: Path, model: type[Facts], files: Callable[[str], Sequence[str]], problems: list[str]
) -> dict[str, Facts]:
    """The entries of an index whose files can be put into a page.

    Args:
        path: The index, which may be from elsewhere; its files lie beside it.
        root: Nothing outside this folder is shown, wherever names and links lead; it may be reached through links.
        model: What is known of an entry.
        files: Names of the files of one entry.
        problems: Gets a sentence for every entry that is wrong; one whose files have not been made is none.
    """
    found: dict[str, Facts] = {}
    for name, facts in read_index(path).items():
        made = [path.parent / file for file in files(name)]
        if any(os.path.lexists(file) and not _is_own(file, root) for file in made):
            problems.append(f"{path}: '{name}' is left out, since it is no regular file in {root}")
        elif all(file.exists() for file in made):
            try:
                found[name] = model.model_validate(facts)
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                where = ".".join(map(str, first["loc"]))
                problems.append(f"{path}: '{name}' is left out: {where}: {first['msg']}")
    return found


def _is_own(path: Path, root: Path) -> bool:
    real = Path(os.path.realpath(path))
    return real.is_relative_to(os.path.realpath(root)) and real.is_file()


def damaged_index(path: Path) -> str:
    """What is wrong with an index; empty for nothing."""
    try:
        _read(path)
    except StorageError as error:
        return error.message
    return ""


def _read(path: Path) -> Index:
    found = read_mapping(path) or {}
    if not all(isinstance(facts, dict) for facts in found.values()):
        raise StorageError(f"{path} is damaged: an entry is no mapping.")
    return found


def keep_current(
    path: Path, wanted: dict[str, str], files: Callable[[str], list[str]], say: Callable[[str], None]
) -> Index:
    """Remove what shows something else than wanted.

    Args:
        path: The index; its files lie beside it.
        wanted: Keys by name.
        files: Names of the files of one entry.
        say: Reports a damaged index, of which everything is made again.

    Returns:
        The index of what stays.
    """
    if damage := damaged_index(path):
        say(f"{damage} What it lists is made again.")
    index, kept = read_index(path), {}
    for name, facts in index.items():
        made = [path.parent / file for file in files(name)]
        if wanted.get(name) == facts.get("key") and all(file.exists() for file in made):
            kept[name] = facts
            continue
        for file in made:
            if file.parent == path.parent and file.is_file():  # a name from elsewhere may be any path
                file.unlink()
    if kept != index:
        write_json(path, kept)
    return kept


MADE_FROM = "made_from.json"


def is_complete(folder: Path, key: str) -> bool:
    """Whether everything was made that belongs into a folder, from what ``key`` identifies, and nothing touched since.

    It is quick and needs no model; every entry has been checked when `note_complete` was called.
    """
    try:
        found = read_mapping(folder / MADE_FROM) or {}
    except StorageError:
        return False
    return bool(found) and found == {"key": key, "files": _stamps(folder)}


def note_complete(folder: Path, key: str) -> None:
    """Note that all was made that belongs into a folder; where it cannot be written, all is checked each time."""
    with suppress(StorageError):
        write_json(folder / MADE_FROM, {"key": key, "files": _stamps(folder)})


def _stamps(folder: Path) -> dict[str, Stamp]:
    return {path.name: stamp(path) for path in sorted(folder.glob("*")) if path.is_file() and path.name != MADE_FROM}
