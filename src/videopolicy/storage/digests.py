"""What files of data hold, remembered: read once, and again only when a file has been touched.

Data of others lie outside the store, and nobody has said what they should hold. What they hold when they are first
opened is recorded, is part of the keys of all that is trained on them, and is compared whenever they are opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from videopolicy.errors import StorageError, listing
from videopolicy.storage.files import file_digest, written_whole
from videopolicy.storage.identity import digest
from videopolicy.storage.integrity import read_mapping, stamp
from videopolicy.storage.store import Store

FOLDER = "data-digests"
"""Folder of the store for what is remembered."""


def file_digests(
    store: Store, files: Sequence[Path], advance: Callable[[int], None] = lambda size: None, thorough: bool = False
) -> dict[Path, str]:
    """SHA-256 of files; those that have not been touched since they were last read are not read.

    Args:
        store: Remembers them.
        files: The files.
        advance: Called with the bytes that have been read.
        thorough: Read every file.
    """
    found: dict[Path, str] = {}
    by_folder: dict[Path, list[Path]] = {}
    for path in files:
        by_folder.setdefault(path.parent, []).append(path)
    for folder, inside in by_folder.items():
        place = store.root / FOLDER / f"{_name(folder)}.json"
        known = _read(place)
        fresh = dict(known)
        for path in inside:
            now = stamp(path)
            before = known.get(path.name)
            if thorough or not (isinstance(before, list) and len(before) == 2 and before[0] == now):
                fresh[path.name] = before = [now, file_digest(path)]
                advance(now[0])
            found[path] = before[1]
        if fresh != known:
            _write(place, fresh)
    return found


def to_be_read(store: Store, files: Iterable[Path]) -> int:
    """Bytes of the files that `file_digests` would read."""
    known: dict[Path, Mapping[str, Any]] = {}
    total = 0
    for path in files:
        if path.parent not in known:
            known[path.parent] = _read(store.root / FOLDER / f"{_name(path.parent)}.json")
        before, now = known[path.parent].get(path.name), stamp(path)
        total += 0 if isinstance(before, list) and before[:1] == [now] else now[0]
    return total


def content(store: Store, files: Sequence[Path]) -> str:
    """Identifies what files hold, wherever they lie and whatever they are called; empty for no files."""
    return digest(sorted(file_digests(store, files).values())) if files else ""


def changes(store: Store, path: Path, digests: Mapping[Path, str], keep: bool = False) -> str:
    """What has changed of data since they were last opened; the first time nothing has.

    Args:
        store: Remembers what was there.
        path: Where the data lie.
        digests: Of the files that are read now, which may be some of them.
        keep: Leave what is remembered as it is where something has changed, so that a later call says the same.

    Returns:
        One phrase for each file and since when; empty for no change.
    """
    place = store.root / FOLDER / f"opened-{_name(path)}.json"
    before = _read(place)
    known, since = before.get("files"), before.get("opened", "")
    known = known if isinstance(known, dict) else {}
    now = {str(file.absolute()): text for file, text in digests.items()}
    gone = [name for name in known if name not in now and not Path(name).exists()]
    found = [f"{name} was removed" for name in gone]
    found += [f"{name} was changed" for name, text in now.items() if known.get(name, text) != text]
    kept = {name: text for name, text in {**known, **now}.items() if name not in gone}
    if kept != known and not (keep and found):
        opened = datetime.now(UTC).isoformat(timespec="seconds") if found or not since else since
        _write(place, {"opened": opened, "files": kept})
    return f"since {since}: {listing(found, limit=4)}" if found else ""


def _name(path: Path) -> str:
    return hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]


def _read(place: Path) -> dict[str, Any]:
    with suppress(StorageError):  # what is lost is time
        return read_mapping(place) or {}
    return {}


def _write(place: Path, value: Mapping[str, Any]) -> None:
    with suppress(StorageError), written_whole(place, shared=True) as part:
        part.write_text(json.dumps(value), encoding="utf-8")
