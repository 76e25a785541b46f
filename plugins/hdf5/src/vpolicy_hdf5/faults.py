"""What HDF5 reports when something goes wrong, by cause: most of it is no damage of the file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videopolicy import DataError
from videopolicy.parts.files import system_reason
from vpolicy_hdf5.layout import MARKER

_POINTER = b"version https://git-lfs"
_LOCKED = (
    "another process has it open for writing",
    "Wait for that process, or end it, and run this again; the file itself is as it was.",
)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def readable(path: Path, where: str = "", remedy: str = "") -> Iterator[None]:
    """Turn what HDF5 says into an error that names the file, and the reason that it truly has.

    Args:
        path: The file.
        where: Place in it, such as an episode.
        remedy: What to do where the file is damaged; left out: what fits foreign files and collected ones.
    """
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, MemoryError) as error:
        place = f"{path}, {where}," if where else str(path)
        reason, hint = _reason(path, error, remedy)
        raise DataError(f"{place} cannot be read: {reason}.", hint) from error


def error_number(error: BaseException) -> int | None:
    """The operating system's number of an error, which h5py at times has in its text alone."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"errno = (\d+)", str(error))
    return int(found[1]) if found else None


def _reason(path: Path, error: Exception, remedy: str) -> tuple[str, str]:
    """Why a file cannot be read, and what to do."""
    text = str(error.args[-1] if error.args else repr(error)).strip().rstrip(".")
    number = error_number(error)
    if number in _NO_LOCKS:
        return (
            "its file system has no locks",
            "Set HDF5_USE_FILE_LOCKING=FALSE in the environment, and let nobody write the file meanwhile.",
        )
    if number == errno.EAGAIN or "unable to lock file" in text:
        return _LOCKED
    if (reason := system_reason(number)) is not None:
        return reason
    if "already open for write" in text:
        return (
            "it is marked as being written: another process writes it, or was killed while it did",
            f"Wait for that process; when nobody writes it, `h5clear -s {path}` takes the mark away.",
        )
    if "required filter" in text or "plugin" in text:
        return (
            f"it is compressed with a filter that is not installed ({text})",
            "Install the filter, most of which are in the package hdf5plugin: `uv pip install hdf5plugin`.",
        )
    if number is not None:
        return f"{os.strerror(number)} ({text})", "Remove the cause, then run this again; the file may be sound."
    if "signature not found" in text:
        return _no_hdf5(path, remedy)
    if cut := re.search(r"truncated file: eof = (\d+),.* stored_eof = (\d+)", text):
        return f"it is cut short: {cut[1]} of its {cut[2]} bytes are there", remedy or _damaged(path)
    return text, remedy or _damaged(path)


def _no_hdf5(path: Path, remedy: str) -> tuple[str, str]:
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError:
        start = b"?"
    if start == _POINTER:
        return "it is a pointer of Git LFS and not the file itself", "Fetch the file with `git lfs pull`."
    return ("it is empty" if not start else "it is not HDF5"), remedy or _damaged(path)


def _damaged(path: Path) -> str:
    """What to do about a damaged file: only what was collected here can be collected again."""
    if (path.parent / MARKER).is_file():
        return f"The file is damaged: restore it from a copy, or delete {path.parent} to collect it again."
    return "The file is damaged or not what it should be: copy or download it again."
