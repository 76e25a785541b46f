"""The index of files that were made for a report, so that a rerun makes only what is missing or has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from videopolicy.storage.files import write_json

Index = dict[str, dict[str, Any]]
"""Facts by name; ``key`` among them identifies what the files show."""


def read_index(path: Path) -> Index:
    """Read an index; an absent or damaged one is empty."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def keep_current(path: Path, wanted: dict[str, str], files: Callable[[str], list[str]]) -> Index:
    """Remove what shows something else than wanted.

    Args:
        path: The index; its files lie beside it.
        wanted: Keys by name.
        files: Names of the files of one entry.

    Returns:
        The index of what stays.
    """
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
