"""Text on its way to a terminal or a log: shown as it is, whatever is in it and whatever the terminal can show.

Names, sentences and error texts come from data, recipes, run folders and simulators of others: what in them would move
the cursor, change colours or reverse a line is replaced.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

CLOSED = 141
"""Exit code of a process whose reader has gone, as a shell reports it: 128 + SIGPIPE."""

_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control codes but tab and newline
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # reverse the direction of writing
    r"\u2028\u2029"  # other ends of line
    r"\ud800-\udfff]"  # bytes of file names that are no text
)


def clean(text: str) -> str:
    """Replace what a terminal would act on instead of showing it, each by one U+FFFD."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def say(text: object, end: str = "\n", error: bool = False) -> None:
    """Print to the terminal.

    Args:
        text: What to print.
        end: What follows it.
        error: To standard error instead of standard output.

    Raises:
        SystemExit: With 141, since its reader has gone.
    """
    stream = sys.stderr if error else sys.stdout
    try:
        print(clean(str(text)), end=end, file=stream)
    except BrokenPipeError:
        discard(stream)
        raise SystemExit(CLOSED) from None


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Let standard output and error replace what their encoding lacks, and end quietly when nobody reads them.

    Raises:
        SystemExit: With 141, since the reader of standard output has gone.
        OSError: Standard output cannot be written.
    """
    output = sys.stdout
    for stream in (output, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        try:
            if output is not None:  # it was closed before this process began
                output.flush()
        except BrokenPipeError:
            discard(output)
            raise SystemExit(CLOSED) from None
        except OSError:
            discard(output)
            raise


def discard(stream: IO[str]) -> None:
    """Send what a stream still holds nowhere, so that the interpreter does not fail on it at its end."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
