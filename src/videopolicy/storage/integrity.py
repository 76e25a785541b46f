"""Whether the files of an artifact are still what was written when it was finished.

Their hashes are recorded then and compared whenever the artifact is used. Reading gigabytes each time would cost
minutes, so a file whose size and times are those of the last comparison counts as unchanged; everything is read when a
user asks for it (`vpolicy store verify`, `vpolicy data info --verify`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from videopolicy.errors import StorageError
from videopolicy.paths import ensure_regular
from videopolicy.storage.files import file_digest, write_json, written_whole

MARKER, HASHES, USES = "done.json", "hashes.json", "uses.json"
CHECKPOINT, PROGRESS = "checkpoint.ckpt", "progress.json"
"""What unfinished work goes on from; nothing needs it afterwards."""
_CHECKED = "checked.json"
_OWN = (MARKER, HASHES, USES, _CHECKED, CHECKPOINT, PROGRESS)
_PASSING = ("logs", "tensorboard", "wandb")  # what nothing is computed from

Stamp = list[int]


def contents(folder: Path) -> Iterator[Path]:
    """The files of an artifact that anything is computed from, in order of path."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(p.startswith(".") or p in _PASSING for p in parts) and path.name not in _OWN:
            yield path


def record(folder: Path) -> None:
    """Record what the files of an artifact hold; takes about a second a gigabyte."""
    stamps = {str(path.relative_to(folder)): stamp(path) for path in contents(folder)}
    write_json(folder / HASHES, {name: file_digest(folder / name) for name in stamps})
    _note(folder, stamps)


def recorded(folder: Path) -> bool:
    """Whether it is known what the files of an artifact should hold."""
    return (folder / HASHES).is_file()


def differences(folder: Path, thorough: bool = False, closed: bool = False) -> list[str]:
    """What differs from what was recorded, one phrase for each file; none where nothing was recorded.

    Args:
        folder: Of the artifact.
        thorough: Read every file, whether it seems to have been touched or not.
        closed: Whether a further file is a difference too.

    Raises:
        StorageError: What was recorded cannot be read.
    """
    hashes = read_mapping(folder / HASHES, "Restore it, or make what its folder holds again.")
    if hashes is None:
        return []
    known: dict[str, Any] = {}
    if not thorough:
        with suppress(StorageError):  # what it saves is time
            known = read_mapping(folder / _CHECKED) or {}
    wrong, stamps = [], {}
    for name, digest in hashes.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
            continue
        now = stamp(path)
        if known.get(name) == now or file_digest(path) == digest:
            stamps[name] = now
        else:
            wrong.append(f"{name} is not what was written")
    if closed:
        there = (str(path.relative_to(folder)) for path in contents(folder))
        wrong += [f"{name} was added" for name in there if name not in hashes]
    if stamps != known:
        _note(folder, stamps)
    return wrong


def stamp(path: Path) -> Stamp:
    """What changes whenever a file is written to: its size, and when its content and its entry were changed."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def read_mapping(path: Path, hint: str = "") -> dict[str, Any] | None:
    """A JSON mapping of ours; None where it is missing.

    Raises:
        StorageError: It is there and cannot be read; the message names it.
    """
    ensure_regular(path, StorageError, hint)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} is damaged: {error}.", hint) from None
    if not isinstance(found, dict):
        raise StorageError(f"{path} is damaged: it holds no mapping.", hint)
    return found


def _note(folder: Path, stamps: dict[str, Stamp]) -> None:
    """Remember what the files looked like; on a disk that can only be read, everything is read each time."""
    with suppress(StorageError, OSError), written_whole(folder / _CHECKED, shared=True) as part:
        part.write_text(json.dumps(stamps), encoding="utf-8")
