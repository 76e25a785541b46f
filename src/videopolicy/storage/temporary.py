"""Folders in the system's folder for temporary files, and removing those that killed processes have left there."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from videopolicy.errors import BusyError, StorageError
from videopolicy.storage.files import locked_file

PREFIX = "vpolicy-"
_OWNER = ".owner"
_SECONDS_TO_BEGIN = 60.0
"""Younger folders are left alone: their owner may not hold them yet."""

_held: dict[Path, ExitStack] = {}


def make_folder(place: str | None = None) -> Path:
    """A new folder with a short path that is this process's for as long as it lives; removed by `remove_folder`.

    What killed processes of this user have left behind is removed first.

    Args:
        place: Where it is made; None: in the system's folder for temporary files.
    """
    sweep(place)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    stack = ExitStack()
    stack.enter_context(locked_file(folder / _OWNER, f"the folder {folder}"))
    _held[folder] = stack
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a folder of `make_folder` and all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    if (stack := _held.pop(folder, None)) is not None:
        stack.close()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder of `make_folder` that is gone at the end."""
    folder = make_folder()
    try:
        yield folder
    finally:
        remove_folder(folder)


def left_behind(place: str | None = None) -> list[Path]:
    """Folders of this user's processes that are gone. Who owned one held a lock in it, which vanished with it."""
    found = []
    for folder in sorted(Path(place or tempfile.gettempdir()).glob(f"{PREFIX}*")):
        with suppress(OSError):
            if _ours(folder) and folder not in _held and time.time() - folder.lstat().st_mtime > _SECONDS_TO_BEGIN:
                with suppress(BusyError, StorageError), locked_file(folder / _OWNER, f"the folder {folder}"):
                    found.append(folder)
    return found


def sweep(place: str | None = None) -> list[Path]:
    """Remove the folders of `left_behind`.

    Returns:
        Those that were removed.
    """
    found = left_behind(place)
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _ours(folder: Path) -> bool:
    """Whether it is a folder of this user that `make_folder` has made: no link, and with a lock that is a file."""
    entry, owner = folder.lstat(), (folder / _OWNER).lstat()
    mine = entry.st_uid == owner.st_uid == os.getuid()
    return mine and stat.S_ISDIR(entry.st_mode) and stat.S_ISREG(owner.st_mode)
