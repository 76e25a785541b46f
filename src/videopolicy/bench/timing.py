"""Timing calls: warm-up, an adaptive number of calls, medians, memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from videopolicy.console.monitor import MemoryMonitor
from videopolicy.console.progress import Reporter

FEWEST, MOST = 5, 100
"""Timed calls, when their number adapts; calls of over ten seconds are timed thrice."""
SLOW = 10.0


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated calls.

    Args:
        seconds: Every timed call, in order.
        warmup_seconds: Every call before, of which the first holds all that happens only once.
    """

    seconds: list[float]
    warmup_seconds: list[float]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def p95(self) -> float:
        return float(np.percentile(self.seconds, 95))


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(
    name: str,
    call: Callable[[], object],
    device: torch.device,
    reporter: Reporter,
    warmup: int | None = None,
    calls: int | None = None,
    before: Callable[[], object] | None = None,
    seconds: float = 5.0,
) -> Timing:
    """Time a call often enough for a median.

    Args:
        name: Shown as progress.
        call: What is timed; a device's work is waited for.
        device: Where it works.
        reporter: Shows progress.
        warmup, calls: Numbers of calls; None adapts: warm-up until a call is no longer much faster than the one
            before it, then about ``seconds`` of calls, between 5 and 100 of them (3 where one takes over ten
            seconds).
        before: Called before every call, untimed.
        seconds: How long adaptive timing aims to take.
    """

    def once() -> float:
        if before is not None:
            before()
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        return time.perf_counter() - start

    first: list[float] = []
    with reporter.activity(f"{name}: warm up", warmup or 2) as progress:
        while len(first) < (warmup if warmup is not None else _warmup_calls(first)):
            first.append(once())
            progress.advance()
    if calls is None:
        expected = first[-1] if first else once()
        calls = 3 if expected > SLOW else int(min(max(seconds / expected, FEWEST), MOST))
    found = []
    with reporter.activity(name, calls) as progress:
        for _ in range(calls):
            found.append(once())
            progress.advance()
    return Timing(found, first)


def _warmup_calls(done: list[float]) -> int:
    """How many warm-up calls are needed, given those that were made."""
    if len(done) < 2:
        return 1 if done and done[0] > SLOW else 2
    settled = done[-1] > 0.8 * done[-2] or len(done) >= 5
    return len(done) if settled else len(done) + 1


def peak_memory(call: Callable[[], object], device: torch.device) -> int:
    """Largest memory during a call in bytes: CUDA's allocations, or this process's resident memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    with MemoryMonitor(seconds=0.02, descendants=False) as memory:
        call()
    return memory.peak_bytes


def peak_rate(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """Floating-point operations a second of a large matrix product, the best of several: what the device can do.

    After a second no further product is begun: processors that only emulate a type take seconds for one.

    Args:
        device: Where.
        dtype: Of the factors.
        size: Of the square factors; None: as large as the kind of device needs.
    """
    size = size or (8192 if device.type == "cuda" else 1024)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, deadline = float("inf"), time.perf_counter() + 1.0
    for attempt in range(8):
        if attempt and time.perf_counter() > deadline:
            break
        synchronize(device)
        start = time.perf_counter()
        left @ right
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
