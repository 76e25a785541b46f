"""The navigation: an entry of `nav` in mkdocs.yml is a pattern, and pages that are there take its place."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from site_links import REPOSITORY


def patterns(entry: Any) -> Iterator[str]:
    """All patterns of the navigation or of a part of it."""
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from patterns(part)


def expanded(entries: list[Any], places: list[str]) -> list[Any]:
    """Entries with pages in the place of patterns; sections without a page are left out.

    Args:
        entries: Patterns, and sections of patterns by their title.
        places: All pages of the site.
    """
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, str):
            pattern = entry.replace("../", REPOSITORY, 1)
            found += sorted((place for place in places if _fits(place, pattern)), key=_order)
        else:
            ((title, inside),) = entry.items()
            if pages := expanded([inside] if isinstance(inside, str) else inside, places):
                found.append({title: pages})
    return found


def _fits(place: str, pattern: str) -> bool:
    return place.count("/") == pattern.count("/") and fnmatchcase(place, pattern)


def _order(place: str) -> tuple[bool, str]:
    """A folder's index comes first."""
    return not place.endswith("index.md"), place
