"""Logs that other processes append to, kept from filling a disk."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

LIMIT = 4_000_000
"""Bytes above which a log is cut."""
HEAD, TAIL = 200_000, 1_000_000
"""Bytes that are kept of its beginning, which says what was started, and of its end, which says how it ended."""


def cap(path: Path, limit: int = LIMIT, head: int = HEAD, tail: int = TAIL) -> None:
    """Cut the middle out of a log that has grown too large. Where the file stays as it is, this takes a look at it.

    The file is cut in place: a process that has opened it for appending goes on at its new end. What it writes at that
    very moment may be lost.

    Args:
        path: The log, which need not exist.
        limit: Bytes above which it is cut.
        head, tail: Bytes that are kept.
    """
    with suppress(OSError):
        size = path.stat().st_size
        if size <= limit:
            return
        with path.open("r+b") as file:
            file.seek(size - tail)
            end = file.read().partition(b"\n")[2]
            file.seek(head)
            cut = size - head - len(end)
            file.truncate(head)
            file.write(f"\n[{cut} bytes of this log were cut out here, as it was longer than {limit}]\n".encode() + end)
            file.truncate()
