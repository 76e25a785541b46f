"""How a command ends when it is told to, and when nobody reads what it prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from videopolicy.cli.interrupts import SignalError, interruptible
from videopolicy.errors import VpolicyError


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Under nohup this process ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def told(number: int) -> VpolicyError:
    closed = []

    def command() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        except Exception:  # a handler of errors must not swallow it
            pytest.fail("swallowed")
        finally:
            closed.append(True)

    before = signal.getsignal(number)
    with pytest.raises(VpolicyError, match="What was finished is kept") as caught:
        interruptible(command)()
    assert closed and signal.getsignal(number) is before
    return caught.value


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_say_what_is_kept_and_end_with_their_code(number: int, code: int):
    error = told(number)
    assert isinstance(error, SignalError) and error.exit_code == code
    assert signal.Signals(number).name in error.message and error.hint


def test_a_signal_counts_whatever_unwinding_makes_of_it():
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(10)
        finally:
            raise OSError(5, "Input/output error")  # of the terminal that has gone

    with pytest.raises(SignalError, match="SIGHUP"):
        interruptible(command)()


def test_a_connection_that_breaks_is_not_taken_for_a_closed_output():
    def command() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(RuntimeError, match="closed its connection"):
        interruptible(command)()


def test_ctrl_c_is_answered_the_same_way(monkeypatch: pytest.MonkeyPatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert told(signal.SIGINT).exit_code == 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert interruptible(lambda: os.kill(os.getpid(), signal.SIGHUP) or "went on")() == "went on"
    finally:
        signal.signal(signal.SIGHUP, before)


PROGRAM = """
import atexit, sys, time
from videopolicy.cli import interrupts, main
from videopolicy.cli.interrupts import interruptible
from videopolicy.console.text import say

def stubborn():
    try:
        say("ready"); sys.stdout.flush(); time.sleep(60)
    finally:
        say("unwinding"); sys.stdout.flush(); time.sleep(60)

def waiting():
    try:
        say("ready"); sys.stdout.flush(); time.sleep(60)
    finally:
        time.sleep(60)

def waiting_at_the_end():
    atexit.register(time.sleep, 60)
    say("ready"); sys.stdout.flush(); time.sleep(60)

def talkative():
    for number in range(100_000):
        say(f"line {number}")

main.app = lambda prog_name: interruptible(COMMAND)()
main.main()
"""


def test_the_second_signal_ends_at_once_and_a_closed_output_ends_quietly(tmp_path: Path):
    start = [sys.executable, "-c"]
    twice = subprocess.Popen([*start, PROGRAM.replace("COMMAND", "stubborn")], stdout=subprocess.PIPE, text=True)
    unread = subprocess.Popen(
        [*start, PROGRAM.replace("COMMAND", "talkative")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert twice.stdout is not None and unread.stdout is not None and unread.stderr is not None
    assert unread.stdout.readline() == "line 0\n"
    unread.stdout.close()
    assert unread.stderr.read() == "" and unread.wait(60) == 141
    assert twice.stdout.readline() == "ready\n"
    twice.send_signal(signal.SIGTERM)
    assert twice.stdout.readline() == "unwinding\n"
    twice.send_signal(signal.SIGTERM)
    assert twice.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("command", ["waiting", "waiting_at_the_end"])
def test_what_cannot_end_is_ended_and_shows_where_it_was(command: str):
    program = PROGRAM.replace("COMMAND", command).replace("main.main()", "interrupts.SECONDS_TO_END = 0.5\nmain.main()")
    one = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert one.stdout is not None and one.stderr is not None
    assert one.stdout.readline() == "ready\n"
    one.send_signal(signal.SIGTERM)
    said = one.stderr.read()
    assert one.wait(30) == 1 and "Timeout" in said
    assert f" in {command}" in said if command == "waiting" else "Ended by SIGTERM" in said
