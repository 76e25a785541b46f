"""What simulators print and say, made fit for a message."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

_LOG_LINES = 12
_LINES = 60
_CHARACTERS = 500
_READ = 2**16


def end_of(log: Path) -> str:
    """The last lines of a log; empty where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _READ))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return shown("\n".join(text.splitlines()[-_LOG_LINES:]))


def shown(said: Any) -> str:
    """What a worker has said as lines that a terminal can show: not too many, not too long, no control characters."""
    lines = str(said).splitlines()[-_LINES:]
    return "\n".join("".join(c if c.isprintable() else " " for c in line)[:_CHARACTERS] for line in lines)


def quoted(details: str) -> str:
    """Lines that follow a message and are somebody else's."""
    return "".join(f"\n  | {line}" for line in details.strip().splitlines())


def ending(code: int | None) -> str:
    """How a process has ended, from what `subprocess.Popen.poll` says."""
    if code is None or code >= 0:
        return f"exit status {code}"
    with suppress(ValueError):  # real-time signals have no names
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
