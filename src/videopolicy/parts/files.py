"""Files that are whole or not there, paths as users write them, and inputs that can be read to an end."""

import errno
from pathlib import Path

from videopolicy.errors import DataError
from videopolicy.paths import expanded, kind_of
from videopolicy.storage.files import storage_errors, written_whole

__all__ = ["ensure_data", "expanded", "storage_errors", "system_reason", "written_whole"]

_PERMISSIONS = ("its permissions do not allow it", "Make it readable for you, such as by `chmod u+rX`.")
_GONE = ("it is no longer there", "Restore it, or correct `path` in the recipe's data section.")
_REASONS: dict[int, tuple[str, str]] = {
    errno.EMFILE: (
        "this process may not open more files",
        "Raise the limit in the shell, such as `ulimit -n 4096`, and run this again.",
    ),
    errno.ENFILE: (
        "the machine has no more open files to give",
        "End other programs, or raise fs.file-max, and run this again.",
    ),
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EISDIR: ("it is a folder", "Name the file in the recipe's data section."),
    errno.ENOENT: _GONE,
    errno.ENOTDIR: _GONE,
    errno.ELOOP: ("its links lead in a circle", "Restore what it links to."),
    errno.ENOMEM: ("the machine's memory is full", "End other programs, or lower `memory_limit`."),
    errno.EIO: ("the disk or the network failed while reading", "Look after the disk, then run this again."),
    errno.ESTALE: ("the network disk has lost it", "Mount the disk again, then run this again."),
    errno.ENOTCONN: ("the network disk is not connected", "Mount the disk again, then run this again."),
    errno.ETIMEDOUT: ("the network disk did not answer", "Look after the network, then run this again."),
}


def system_reason(number: int | None) -> tuple[str, str] | None:
    """Why a file could not be read though it may be sound, and what to do, by the operating system's error number."""
    return _REASONS.get(number) if number is not None else None


def ensure_data(path: Path) -> None:
    """Check that an input is a file or a folder: opening a named pipe would wait for ever.

    Raises:
        DataError: It is something else, or a link to something that is not there.
    """
    try:
        path.stat()
    except FileNotFoundError:
        if not path.is_symlink():
            raise DataError(f"{path} does not exist.", "Correct `path` in the recipe's data section.") from None
        raise DataError(
            f"{path} is a link to {path.readlink()}, which does not exist.", "Restore what it links to, or remove it."
        ) from None
    except OSError as error:
        reason, hint = system_reason(error.errno) or (error.strerror, "Name a file or a folder of data.")
        raise DataError(f"{path} cannot be read: {reason}.", hint) from None
    kind = kind_of(path)
    if kind and not path.is_dir():
        raise DataError(f"{path} is {kind}, not a file.", "Name a file that holds data.")
