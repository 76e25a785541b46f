"""Ctrl-C and the signals that end a process, as an end like any other that a user can act on."""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from videopolicy.errors import VpolicyError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_KEPT, _GO_ON = "What was finished is kept.", "Run the same command again to go on."
SECONDS_TO_END = 120.0
"""For unwinding and for the interpreter's own end. Longer than writing a checkpoint takes, shorter than a night: two
processes that train together may each wait for what the other was to send."""


class SignalError(VpolicyError):
    """A signal has ended the command.

    Args:
        number: Of the signal; the exit code is 128 more, as a shell reports it, but 2 for Ctrl-C.
    """

    def __init__(self, number: int) -> None:
        pressed = number == signal.SIGINT
        super().__init__(f"{'Interrupted' if pressed else f'Ended by {signal.Signals(number).name}'}. {_KEPT}", _GO_ON)
        self.exit_code = 2 if pressed else 128 + number


def end_within_a_while() -> None:
    """End this process after `SECONDS_TO_END` with a trace of where it was, whatever it is waiting for by then."""
    faulthandler.dump_traceback_later(SECONDS_TO_END, exit=True, file=sys.__stderr__ or sys.stderr)


class _Signalled(BaseException):
    """Unwinds a command to its end; no handler of errors and no library's own answer to Ctrl-C catches it."""


class _Signals:
    """Handles the first signal by unwinding the command, so that workers and files are closed; a second one ends it."""

    def __init__(self) -> None:
        self.first: int | None = None
        self._process = os.getpid()
        self._ours: list[signal.Signals] = []

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.first is not None or os.getpid() != self._process:  # a forked child ends as it would without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.first = number
        for one in self._ours:  # Python's own handlers run late where a signal comes right before a long system call
            signal.signal(one, signal.SIG_DFL)
        end_within_a_while()
        raise _Signalled

    @contextmanager
    def handled(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # signals go to the main thread, whose business they are
            return
        # What is ignored stays so, such as SIGHUP under nohup; None is a handler that Python knows nothing of.
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        self._ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
        for number in self._ours:
            signal.signal(number, self.handle)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            for number in self._ours:
                signal.signal(number, before[number])


def interruptible(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn signals inside a command into a message; the command line's own answer would be a bare "Aborted".

    SIGTERM and SIGHUP end it with 143 and 129, Ctrl-C with 2. A second signal ends the process at once, and so does
    unwinding that does not come to an end.
    """

    @functools.wraps(command)
    def inner(*arguments: Any, **options: Any) -> Any:
        signals = _Signals()
        try:
            with signals.handled():
                return command(*arguments, **options)
        except BaseException as error:
            # Whatever unwinding has made of it: a terminal that has gone cannot be written, a library exits.
            if signals.first is not None or isinstance(error, KeyboardInterrupt):
                raise SignalError(signals.first or signal.SIGINT) from None
            if isinstance(error, BrokenPipeError):  # not of our output; the command line would end without a word
                raise RuntimeError("Another process has closed its connection.") from error
            raise

    return inner
