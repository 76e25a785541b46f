"""Measures a policy while it chooses actions: latency, parts, throughput, and what compiling it changes."""

from __future__ import annotations

import time
from typing import Any

import torch

from videopolicy.bench.counting import operations
from videopolicy.bench.parts import PARTS, TEXT, Account, split
from videopolicy.bench.results import Compiled, Latency, Split, Throughput
from videopolicy.bench.settings import DTYPES
from videopolicy.bench.subject import Subject, UnfoldingEpisode
from videopolicy.bench.timing import Timing, peak_memory, peak_rate, synchronize, timed
from videopolicy.console.progress import Reporter
from videopolicy.evaluation.compiling import compile_modules, failures_explained
from videopolicy.types import RowGenerator

SPLIT_CALLS = 10
"""Calls with a synchronised clock at every part, at most; fewer where they are slow."""

COMPILING_CALLS = 2
"""Plans after which everything is compiled: later ones of an episode may remember something of the first."""


def measured_acting(subject: Subject, reporter: Reporter) -> dict[str, Any]:
    """Times and memory of choosing actions."""
    count = sum(operations(subject, plan=1).values())
    settings, device = subject.settings, subject.settings.torch_device
    compiled = compiled_policy(subject, reporter) if settings.compile else None
    one = latency_of(timed_plans(subject, "latency", 1, reporter))
    found: dict[str, Any] = {"compiled": compiled, "latency": one}
    found["split"] = split_by_part(subject, min(SPLIT_CALLS, one.calls), reporter)
    found["throughput"] = [throughput(subject, size, reporter) for size in settings.batch_sizes]
    with settings.numbers():
        peak = peak_rate(device, DTYPES[settings.dtype])
    return {**found, "device_peak": peak, "share_of_peak": count / one.median / peak}


def timed_plans(subject: Subject, name: str, rows: int, reporter: Reporter) -> Timing:
    """Plans of one episode in each of some rows.

    What is compiled for this number of rows, for a first plan and for a later one, is so before anything is timed.
    """
    settings, episode = subject.settings, UnfoldingEpisode(subject, rows)
    if settings.compile:
        with reporter.activity(f"{name}: compile", COMPILING_CALLS) as progress:
            for _ in range(COMPILING_CALLS):
                episode.unfold()
                episode.act()
                progress.advance()
    return timed(
        name,
        episode.act,
        settings.torch_device,
        reporter,
        settings.warmup,
        settings.calls,
        episode.unfold,
        settings.seconds,
    )


def latency_of(timing: Timing) -> Latency:
    """What is reported of the times of single plans."""
    return Latency(
        timing.median,
        timing.p95,
        min(timing.seconds),
        len(timing.seconds),
        (timing.warmup_seconds or timing.seconds)[0],
        len(timing.warmup_seconds),
        timing.seconds,
    )


def compiled_policy(subject: Subject, reporter: Reporter) -> Compiled:
    """Compile what the policy runs.

    Raises:
        VpolicyError: torch cannot.
    """
    observation = subject.observation(1)
    before = fixed_actions(subject)
    with failures_explained("--compile"):
        modules = compile_modules(subject.policy, lambda: subject.act(observation))
        first = timed("compile", lambda: subject.act(observation), subject.settings.torch_device, reporter, 0, 1)
    return Compiled(modules, first.seconds[0], float((fixed_actions(subject) - before).abs().max()))


@torch.inference_mode()
def fixed_actions(subject: Subject) -> torch.Tensor:
    """Normalised actions for one fixed observation and fixed noise."""
    subject.policy.reset([0])
    with subject.settings.numbers():
        seen = subject.normalizer.observation(subject.observation(1).to(subject.settings.torch_device))
        return subject.policy.act(seen, RowGenerator.from_seeds([0])).float().cpu()


def split_by_part(subject: Subject, calls: int, reporter: Reporter) -> Split:
    """How a plan's time is divided among the parts."""

    def clock() -> float:
        synchronize(subject.settings.torch_device)
        return time.perf_counter()

    account, new = Account(clock), Account(clock)
    episode, other = UnfoldingEpisode(subject), subject.observation(1)
    other.instructions = ["a sentence that has never been seen before"]
    with reporter.activity("split by part", calls + 1) as progress:
        with split(subject.policy, new):
            subject.act(other)
        progress.advance()
        with split(subject.policy, account):
            for _ in range(calls):
                episode.unfold()
                episode.act()
                progress.advance()
    seconds = {part: account.spent[part] / calls for part in PARTS if part in account.spent}
    return Split(seconds, sum(seconds.values()), new.spent.get(TEXT, 0.0), calls)


def throughput(subject: Subject, size: int, reporter: Reporter) -> Throughput:
    """Plans of several rows at a time."""
    try:
        median = timed_plans(subject, f"batch of {size}", size, reporter).median
        episode = UnfoldingEpisode(subject, size)
        episode.unfold()
        memory = peak_memory(episode.act, subject.settings.torch_device)
    except torch.OutOfMemoryError:
        return Throughput(size, None, None, None)
    return Throughput(size, median, size / median, memory)
