"""Episodes from which others are made: opened with their states, replayed as they were, and named in what is made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Episode
from videopolicy.data.preparation import prepare_data
from videopolicy.errors import DataError
from videopolicy.recipes.recipe import Recipe
from videopolicy.storage.files import storage_errors, write_json
from videopolicy.storage.store import Store

LOGS = "logs"
"""Folder beside the episodes that are made, for what simulators print."""


class Sources(NamedTuple):
    """The episodes of a recipe, without pictures, and what identifies them, plain data."""

    episodes: Sequence[Episode]
    content: dict[str, str]


def open_sources(recipe: Recipe, store: Store, reporter: Reporter) -> Sources:
    """The recipe's episodes with the simulator's states, collected first where they have to be.

    Raises:
        PluginError: The dataset type keeps no states.
        DataError: An episode does not hold them; see `prepare_data`.
    """
    data = recipe.required_data()
    dataset, collected = prepare_data(recipe, store, reporter)
    episodes = data.episodes(store.place("datasets", collected.key) / collected.folder if collected else None)
    return Sources(episodes, {"type": data.type, "content": dataset.fingerprint()})


def ensure_as_recorded(episode: Episode, answer: Mapping[str, Any], same_simulator: bool = True) -> None:
    """Check that a replayed episode is what was recorded.

    Args:
        episode: The episode.
        answer: What the simulator says of it: ``initial_state`` and ``success``.
        same_simulator: Whether it is the one of the recording, in the same versions: states have equal hashes.

    Raises:
        DataError: It begins otherwise, or is solved in none of its states.
    """
    name = f"The demonstration attempt {episode.attempt} of task '{episode.task}'"
    if same_simulator and answer["initial_state"] != episode.initial_state:
        raise DataError(
            f"{name} does not begin here as it did when it was recorded.",
            "Use the simulator's versions and the benchmark's options of the recording, or collect it again.",
        )
    if not answer["success"]:
        raise DataError(
            f"{name} fails when it is replayed: the task is solved in none of its {len(episode.actions)} states.",
            "Leave it out of the data, or collect it again.",
        )


def claim(folder: Path, provenance: str, made_of: Mapping[str, Any]) -> None:
    """Check that nothing is in a folder but what was made of the same, whole or cut off, and mark it.

    Args:
        folder: The folder, which need not exist.
        provenance: Name of the file in it that says what the episodes were made of.
        made_of: What they are made of: plain data.

    Raises:
        DataError: It holds something else.
        StorageError: It cannot be written.
    """
    place, plain = folder / provenance, json.loads(json.dumps(dict(made_of)))
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file.", "Choose a folder.")
    there = {one.name for one in folder.iterdir()} if folder.is_dir() else set()
    if there - {provenance, LOGS}:  # where no attempt was recorded yet, other options may begin
        try:
            found = json.loads(place.read_bytes())
        except (OSError, ValueError):
            found = {}
        differing = [name for name in plain if not isinstance(found, dict) or found.get(name) != plain[name]]
        if differing:
            made = f"what is there was made of another {differing[0]}" if found else "was not made by this command"
            raise DataError(
                f"{folder} is not empty, and {made}.", f"Choose another folder, or remove it (rm -r {folder})."
            )
        return
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(place, plain)
