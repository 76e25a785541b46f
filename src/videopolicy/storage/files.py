"""Files that are whole or not there, locks, and what is said when a disk gives neither."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from videopolicy.errors import BusyError, StorageError
from videopolicy.paths import ensure_regular

_HINTS = {
    errno.ENOSPC: "Free some space on that disk and run the same command again; nothing finished is lost.",
    errno.EDQUOT: "Free some of your quota and run the same command again; nothing finished is lost.",
    errno.EACCES: "Make the folder writable, or choose another one with --runs or VPOLICY_HOME.",
    errno.EPERM: "Make the folder writable, or choose another one with --runs or VPOLICY_HOME.",
    errno.EROFS: "Choose a folder on a writable disk with --runs or VPOLICY_HOME.",
    errno.ENOTDIR: "A file stands where a folder is needed: move it away, or choose another folder.",
    errno.EEXIST: "A file stands where a folder is needed: move it away, or choose another folder.",
}
SECONDS_BETWEEN_WORDS = 60.0
"""How often somebody who waits for another process is notified."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's failure to write into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _HINTS:
            raise
        raise StorageError(f"{path} cannot be written: {error.strerror}.", _HINTS[error.errno]) from error


@contextmanager
def written_whole(path: Path, shared: bool = False) -> Iterator[Path]:
    """Write a file so that a reader sees the old one or the new one, never a part, even after a power cut.

    Args:
        path: The file; its folder is made.
        shared: Whether several processes may write it at once. Where only one does, what a kill leaves behind is
            overwritten the next time.

    Yields:
        The file to write to. It is on disk and has taken its place when the block ends, and is gone after an error.

    Raises:
        StorageError: It cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        if shared:
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
            os.close(descriptor)
            part = Path(name)
        else:
            part.unlink(missing_ok=True)  # in a folder from elsewhere it may be a link to another file
        try:
            yield part
            _sync(part)
            part.replace(path)
            _sync(path.parent)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file as `written_whole` does; bytes of file names that are no text become question marks."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8", errors="replace")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as `written_whole` does."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def ensure_no_link_out(folder: Path, root: Path | None = None) -> None:
    """Check that no link leads out of a folder that may be from elsewhere, before anything is written there.

    Args:
        folder: The folder, which need not exist.
        root: What it must not lead out of; by default the folder itself, which may be reached through links.

    Raises:
        StorageError: A link does.
    """
    inside = os.path.realpath(root or folder)
    waiting = [str(folder.absolute())]
    links = [waiting[0]] if root else []
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        links.append(entry.path)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # whoever needs it says so
    for link in links:
        if not Path(os.path.realpath(link)).is_relative_to(inside):
            raise StorageError(
                f"{link} is a link to {os.path.realpath(link)}, outside {inside}, so that nothing is written there.",
                "Put the files themselves in the place of the link, or remove it.",
            )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        StorageError: It is no file.
    """
    ensure_regular(path, StorageError, "Restore the file, or remove what stands in its place.")
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, what: str, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a folder against other processes; the lock vanishes with the process, however that ends.

    Args:
        folder: The folder; it is made.
        what: What is being done in it, for the message.
        wait: Wait for another process that holds it, which may leave nothing to be done, and say so here, at once and
            every now and then; None for an error.

    Raises:
        BusyError: Another process holds it.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked_file(folder / ".lock", f"{what} ({folder})", wait):
        yield


@contextmanager
def locked_file(path: Path, what: str, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock that has a file of its own; see `locked`."""
    began = said = time.monotonic()
    timeout = 0.0
    while True:
        try:
            with storage_errors(path):
                lock = _acquired(path, timeout)
            break
        except Timeout:
            now = time.monotonic()
            if wait is None:
                raise BusyError(
                    f"Another process is working on {what}.", "Wait for it, or end it, and run this again."
                ) from None
            if not timeout:
                wait(f"Another process is working on {what}; this one waits for it.")
            elif now - said > SECONDS_BETWEEN_WORDS:
                wait(f"Still waiting for the process that is working on {what}, for {now - began:.0f} s now.")
                said = now
            timeout = 1.0
    try:
        yield
    finally:
        lock.release()


def _acquired(path: Path, timeout: float) -> BaseFileLock:
    """A lock of the operating system; where the file system has none, a file that says who holds it.

    Such a file is left behind by a killed process, and taken over by the next one on the same machine.
    """
    lock: BaseFileLock = FileLock(path, timeout=timeout)
    try:
        with catch_warnings():
            simplefilter("ignore", UserWarning)  # filelock itself falls back for some of these errors, and warns
            lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        lock = SoftFileLock(path.with_name(f"{path.name}.soft"), timeout=timeout)
        lock.acquire()
    return lock
