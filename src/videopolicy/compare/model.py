"""What a comparison says, as plain data: computed once, written in many formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from videopolicy.contracts.benchmark import PublishedNumber
from videopolicy.outcomes.intervals import Interval
from videopolicy.outcomes.records import EpisodeRecord, Rate
from videopolicy.quality.model import InverseError as InverseError
from videopolicy.quality.model import VideoQuality as VideoQuality


@dataclass(frozen=True)
class Cost:
    """What a policy took to train and takes to act. None where it was not recorded.

    Args:
        seconds_per_chunk: Median wall time of one forward pass of the whole batch.
        seconds_per_chunk_p95: 95th percentile of the same.
        rows: Rows of that forward pass.
        parameters: Of the whole policy.
        trained_steps: Optimiser steps over all stages.
        training_seconds: Wall time of all stages, those shared with other runs included.
        processor_seconds: Processor time of the same over all threads, which other work on a shared machine changes
            less than the clock.
        device: What trained it, such as ``NVIDIA H200`` or a processor's name.
        devices: How many of them, 1 for a processor.
        accelerator: Whether the device is an accelerator: hours are then GPU-hours.
    """

    seconds_per_chunk: float | None = None
    seconds_per_chunk_p95: float | None = None
    rows: int | None = None
    parameters: int | None = None
    trained_steps: int | None = None
    training_seconds: float | None = None
    processor_seconds: float | None = None
    device: str = ""
    devices: int = 1
    accelerator: bool = False

    @property
    def device_hours(self) -> float | None:
        return None if self.training_seconds is None else self.training_seconds * self.devices / 3600


@dataclass(frozen=True)
class Entry:
    """One method: all runs that differ in nothing but their name and seed.

    Args:
        name: Of the run; of several seeds, what their names have in common.
        policy: Which row of the runs: ``trained``, ``untrained``, ``random``.
        runs: Run folders, one a seed.
        seeds: Training seeds in the order of the runs.
        tasks: Rate of every task, episodes of all seeds together, in the benchmark's order.
        tiers: Means over the tasks of every tier, where the benchmark has tiers.
        mean: Over all tasks, each with the same weight.
        seed_interval: Of several seeds, the 95 % bootstrap interval over training seeds and episodes of the mean.
        letters: Compact letter display: methods that share a letter do not differ significantly.
        scores: Mean of the ordinal score (chain length, coverage) with its 95 % interval by name, where the
            benchmark has one that is not success.
        cost: Training and acting.
        quality: Of predicted videos; None for methods that predict none or were not asked.
        records: The finished and broken episodes of every run, in the order of ``runs``.
    """

    name: str
    policy: str
    runs: tuple[Path, ...]
    seeds: tuple[int, ...]
    tasks: tuple[Rate, ...]
    tiers: tuple[Rate, ...]
    mean: Rate
    seed_interval: Interval | None = None
    letters: str = ""
    scores: Mapping[str, tuple[float, Interval]] = field(default_factory=dict)
    cost: Cost = Cost()
    quality: VideoQuality | None = None
    records: tuple[tuple[EpisodeRecord, ...], ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two methods compared, the first minus the second.

    Args:
        first, second: Names of entries.
        difference: Of the means over tasks.
        test: Such as ``McNemar, exact`` or ``Boschloo, exact``; for ordinal scores ``permutation``.
        measure: ``success``, or the name of an ordinal score.
        pairs: Equal initial states under both; 0 where the test is unpaired.
        won: Pairs that only the first solved.
        lost: Pairs that only the second solved.
        p: Two-sided.
        p_adjusted: After Holm, over all pairs of this measure.
    """

    first: str
    second: str
    difference: float
    test: str
    measure: str
    pairs: int
    won: int
    lost: int
    p: float
    p_adjusted: float


@dataclass(frozen=True)
class SetApart:
    """A run that cannot stand in the table.

    Args:
        name: Of the run.
        run: Its folder.
        reasons: What differs from the table's protocol, one ``field: theirs instead of ours`` each; or why it
            could not be read.
        mean: Its own mean, where there is one.
    """

    name: str
    run: Path
    reasons: tuple[str, ...]
    mean: Rate | None = None


@dataclass(frozen=True)
class Comparison:
    """A table of methods on one benchmark.

    Args:
        benchmark: Its ``type``.
        protocol: What all entries have in common; its fingerprint is that of every record.
        fingerprint: Of the protocol; empty where nothing was measured.
        tasks: Names of the tasks, in the benchmark's order.
        instructions: Sentence by task.
        tiers: Tier by task, empty strings for none.
        entries: Best mean first; chance last.
        pairs: Every two entries, for every measure.
        detectable: Smallest difference of two means that this many episodes show with 80 % power at 5 %; None with
            fewer than two entries.
        published: Numbers of papers on this benchmark: not measured here.
        set_apart: Runs under other protocols.
        warnings: One sentence each: unequal episodes, unpaired tests, errors, skipped lines.
        remarks: What is said of the data that the entries were trained on, one sentence each with the entries' names.
    """

    benchmark: str
    protocol: Mapping[str, object]
    fingerprint: str
    tasks: tuple[str, ...]
    instructions: Mapping[str, str]
    tiers: Mapping[str, str]
    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    detectable: float | None
    published: tuple[PublishedNumber, ...]
    set_apart: tuple[SetApart, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
