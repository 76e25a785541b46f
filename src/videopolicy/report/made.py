"""The index of files that were made for a report, so that a rerun makes only what is missing or has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from videopolicy.errors import StorageError
from videopolicy.storage.files import write_json
from videopolicy.storage.integrity import read_mapping

Index = dict[str, dict[str, Any]]
"""Facts by name; ``key`` among them identifies what the files show."""


def read_index(path: Path) -> Index:
    """Read an index; an absent or damaged one is empty."""
    try:
        return _read(path)
    except StorageError:
        return {}


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
        say: Is told of a damaged index, of which everything is made again.

    Returns:
        The index of what stays.
    """
    if damage := damaged_index(path):
        say(f"{damage} What it lists is made again.")
    index, kept = read_index(path), {}
    for name, facts in index.items():
        made = [path.with_name(file) for file in files(name)]
        if wanted.get(name) == facts.get("key") and all(file.exists() for file in made):
            kept[name] = facts
        else:
            for file in made:
                file.unlink(missing_ok=True)
    if kept != index:
        write_json(path, kept)
    return kept
