"""Metrics of a server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counts what one server does."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._all = CollectorRegistry()
        self._answers = Histogram(
            "vpolicy_answer_seconds",
            "From the arrival of an observation until its chunk of actions is handed to the network.",
            buckets=_SECONDS,
            registry=self._all,
        )
        self._passes = Histogram("vpolicy_pass_seconds", "Forward passes.", buckets=_SECONDS, registry=self._all)
        self._sharing = Histogram(
            "vpolicy_pass_robots", "Robots that share a forward pass.", buckets=(1, 2, 4, 8, 16, 32), registry=self._all
        )
        self._errors = Counter(
            "vpolicy_errors", "Messages that were answered with an error.", ["kind"], registry=self._all
        )
        self._robots = Gauge("vpolicy_robots", "Robots that are connected.", registry=self._all)

    def answered(self, seconds: float) -> None:
        self._answers.observe(seconds)

    def passed(self, seconds: float, robots: int) -> None:
        self._passes.observe(seconds)
        self._sharing.observe(robots)

    def failed(self, kind: str) -> None:
        """Count an error; ``kind`` is ``message`` for what clients send, ``policy`` for what fails here."""
        self._errors.labels(kind).inc()

    def connected(self, robots: int) -> None:
        """More robots, or fewer where it is negative."""
        self._robots.inc(robots)

    def text(self) -> bytes:
        """All numbers, as Prometheus reads them."""
        return generate_latest(self._all)
