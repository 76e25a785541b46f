"""Shows the user how work is getting on: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from videopolicy.console.terminal import Terminal

SECONDS_BETWEEN_LINES = 15.0


class Activity:
    """One piece of work with a known number of units."""

    def __init__(self, reporter: Reporter, name: str, total: int, done: int) -> None:
        self.name, self.total, self.done, self.text = name, total, done, ""
        self._reporter = reporter
        self._started = self._line_at = time.monotonic()
        self._first = done
        self._bar: tuple[Progress, TaskID] | None = None

    def advance(self, units: int = 1, text: str = "") -> None:
        """Count units as done; ``text`` is a short remark such as the current loss."""
        self.done += units
        self.text = text or self.text
        if self._bar is not None:
            progress, task = self._bar
            progress.update(task, completed=self.done, text=self.text)
        elif time.monotonic() - self._line_at > SECONDS_BETWEEN_LINES:
            self._line_at = time.monotonic()
            self._reporter.line(f"{self.name}: {self.done}/{self.total}{self._remaining()}  {self.text}".rstrip())

    def _remaining(self) -> str:
        count = self.done - self._first
        if count <= 0:
            return ""
        seconds = (time.monotonic() - self._started) / count * (self.total - self.done)
        return f", about {duration(seconds)} left"


class Reporter:
    """Where progress goes.

    Args:
        quiet: Print nothing at all.
        console: For tests; standard error by default, so that results can be piped.
    """

    def __init__(self, quiet: bool = False, console: Terminal | None = None) -> None:
        self.quiet = quiet
        self.console = console or Terminal(stderr=True)

    @contextmanager
    def activity(self, name: str, total: int, done: int = 0) -> Iterator[Activity]:
        """Show a piece of work of ``total`` units, of which ``done`` were finished earlier."""
        activity = Activity(self, name, total, done)
        if self.quiet or not self.console.is_terminal:
            yield activity
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )
        with Progress(*columns, console=self.console, transient=True, refresh_per_second=4) as bar:
            activity._bar = bar, bar.add_task(name, total=total, completed=done, text="")
            yield activity

    def line(self, text: str) -> None:
        """Print one line."""
        if not self.quiet:
            self.console.print(text, soft_wrap=True)


def duration(seconds: float) -> str:
    """Such as ``8 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
