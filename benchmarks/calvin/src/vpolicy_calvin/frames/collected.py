"""What is known of recordings that were collected here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopolicy.parts.collecting import Attempts, read_marker

MARKER = "collection.json"


@dataclass(frozen=True)
class Collection(Attempts):
    """A finished collection.

    Args:
        experts: How many episodes are by which kind of expert; none of them is a human.
        initial_states: Hashes of the states in which the episodes begin.
    """

    experts: dict[str, int]
    initial_states: frozenset[str]

    @classmethod
    def of(cls, marker: Mapping[str, Any]) -> Collection:
        attempts = Attempts.of(marker)
        return Collection(
            attempts.chosen,
            attempts.attempts,
            {str(kind): int(count) for kind, count in marker["experts"].items()},
            frozenset(map(str, marker["initial_states"])),
        )

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
    return read_marker(folder / MARKER, Collection.of)
