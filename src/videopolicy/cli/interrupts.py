"""Ctrl-C and the signals that end a process, as an end like any other that a user can act on."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from videopolicy.errors import VpolicyError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_KEPT, _GO_ON = "What was finished is kept.", "Run the same command again to go on."


class SignalError(VpolicyError):
    """A signal has ended the command.

    Args:
        number: Of the signal; the exit code is 128 more, as a shell reports it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"Ended by {signal.Signals(number).name}. {_KEPT}", _GO_ON)
        self.exit_code = 128 + number


class _Signalled(BaseException):
    """Unwinds a command to its end; no handler of errors and no library's own answer to Ctrl-C catches it."""

    def __init__(self, number: int) -> None:
        self.number = number


def interruptible(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn signals inside a command into a message; the command line's own answer would be a bare "Aborted".

    SIGTERM and SIGHUP end it with 143 and 129, Ctrl-C with 2. A second signal ends the process at once.
    """

    @functools.wraps(command)
    def inner(*arguments: Any, **options: Any) -> Any:
        try:
            with _unwinding():
                return command(*arguments, **options)
        except _Signalled as ended:
            if ended.number != signal.SIGINT:
                raise SignalError(ended.number) from None
            raise VpolicyError(f"Interrupted. {_KEPT}", _GO_ON) from None
        except KeyboardInterrupt:
            raise VpolicyError(f"Interrupted. {_KEPT}", _GO_ON) from None

    return inner


@contextmanager
def _unwinding() -> Iterator[None]:
    """Handle the first signal by unwinding, so that workers and files are closed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread, whose business they are
        return
    ending, process = False, os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        if ending or os.getpid() != process:  # a forked child ends as it would without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        ending = True
        raise _Signalled(number)

    # What is ignored stays so, such as SIGHUP under nohup.
    before = {number: found for number in _SIGNALS if (found := signal.getsignal(number)) not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
