"""What is known of recordings that were collected here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from videopolicy import DataError

MARKER = "collection.json"


@dataclass(frozen=True)
class Collection:
    """A finished collection.

    Args:
        chosen: Kept attempts by task.
        attempts: All attempts by task, and whether each was a success.
        experts: How many episodes are by which kind of expert; none of them is a human.
        initial_states: Hashes of the states in which the episodes begin.
    """

    chosen: dict[str, list[int]]
    attempts: dict[str, dict[int, bool]]
    experts: dict[str, int]
    initial_states: frozenset[str]

    @property
    def remarks(self) -> list[str]:
        """One for every kind of expert."""
        total = sum(self.experts.values())
        return [
            f"{count} of {total} episodes are demonstrations of a {kind} expert, not of a human"
            for kind, count in sorted(self.experts.items())
        ]


def read_collection(folder: Path) -> Collection | None:
    """What was recorded when a collection was finished; None of data from elsewhere.

    Raises:
        DataError: It is damaged.
    """
    marker = folder / MARKER
    if not marker.is_file():
        return None
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        return Collection(
            {str(task): [int(one) for one in ones] for task, ones in found["chosen"].items()},
            {str(task): {int(n): bool(ok) for n, ok in tries.items()} for task, tries in found["attempts"].items()},
            {str(kind): int(count) for kind, count in found["experts"].items()},
            frozenset(map(str, found["initial_states"])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{marker} is damaged: {error!r}.", "Restore the file, or collect the demonstrations anew."
        ) from error
