"""Where the time of an evaluation's workers goes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from videopolicy.storage.provenance import WorkerShares

KINDS = ("simulation", "rendering", "transport", "policy", "waiting")
"""What a worker's time goes into, in the order of reports."""


@dataclass(frozen=True)
class Usage:
    """Steps, and seconds added up over workers.

    Args:
        steps: Environment steps executed, those of episodes that ended in an error included.
        clock: Seconds by the clock.
        seconds: Of workers, by `KINDS`. Policy: the worker stood still while a forward pass was computed; waiting: it
            stood still for another reason, such as other workers, its own start, or lack of an episode.
    """

    steps: int = 0
    clock: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))

    def __add__(self, other: Usage) -> Usage:
        both = {kind: self.seconds[kind] + other.seconds[kind] for kind in KINDS}
        return Usage(self.steps + other.steps, self.clock + other.clock, both)

    @property
    def steps_per_second(self) -> float | None:
        """By the clock; None where nothing was executed."""
        return self.steps / self.clock if self.steps and self.clock else None

    @property
    def shares(self) -> WorkerShares | None:
        """Of all workers' time, adding up to 1; None where there was none."""
        whole = sum(self.seconds.values())
        return WorkerShares(**{kind: self.seconds[kind] / whole for kind in KINDS}) if whole else None


class Timekeeper:
    """Keeps account of what every worker does; all times are those of `time.perf_counter`.

    Args:
        workers: How many there are.
    """

    def __init__(self, workers: int) -> None:
        self._began = time.perf_counter()
        self._since = [self._began] * workers
        self._passes: list[tuple[float, float]] = []
        self._seconds = dict.fromkeys(KINDS, 0.0)
        self.steps = 0

    def passed(self, began: float, ended: float) -> None:
        """A forward pass was computed from one time to another."""
        self._passes.append((began, ended))

    def asked(self, worker: int) -> None:
        """A worker is called now: until now it stood still."""
        self._stood_still(worker, time.perf_counter())

    def answered(self, worker: int, transmitted: float | None, seconds: Mapping[str, float] | None) -> None:
        """A worker's answer was taken now.

        Args:
            worker: Its index.
            transmitted: When the call went out; None where it never did.
            seconds: What the worker has measured; None where it does not say, and all of it counts as simulation.
        """
        now = time.perf_counter()
        if transmitted is None:
            self._stood_still(worker, now)
            return
        self._stood_still(worker, max(self._since[worker], min(transmitted, now)))
        left = now - self._since[worker]
        if seconds is None:
            self._seconds["simulation"] += left
        else:
            for kind in ("simulation", "rendering"):
                spent = min(left, seconds[kind])
                self._seconds[kind] += spent
                left -= spent
            during = min(left, self._policy(now - left, now))  # the answer lay there while the policy computed
            self._seconds["policy"] += during
            self._seconds["transport"] += left - during
        self._since[worker] = now

    def usage(self) -> Usage:
        """All of it until now."""
        now = time.perf_counter()
        for worker in range(len(self._since)):
            self._stood_still(worker, now)
        return Usage(self.steps, now - self._began, dict(self._seconds))

    def _stood_still(self, worker: int, until: float) -> None:
        policy = self._policy(self._since[worker], until)
        self._seconds["policy"] += policy
        self._seconds["waiting"] += until - self._since[worker] - policy
        self._since[worker] = until

    def _policy(self, first: float, last: float) -> float:
        """Seconds of forward passes between two times."""
        total = 0.0
        for began, ended in reversed(self._passes):
            if ended <= first:
                break
            total += max(0.0, min(last, ended) - max(first, began))
        return total
