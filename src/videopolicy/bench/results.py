"""What was measured, as plain data for JSON and tables. Times are in seconds, memory in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StageFacts:
    """One stage of training.

    Args:
        name, target, batch_size, precision: As the recipe has them.
        cached_features: Whether frozen features come from disk, so that a step does not compute them.
        parameters, trainable_parameters: Of what is trained, and of it what the optimiser moves.
        step_seconds, step_seconds_p95: Forward, backward and optimiser step, without loading data; None where
            nothing was timed.
        samples_per_second: At the median.
        peak_memory_bytes: Of one step.
        timed_steps: Steps behind the median.
    """

    name: str
    target: str
    batch_size: int
    precision: str
    cached_features: bool
    parameters: int
    trainable_parameters: int
    step_seconds: float | None = None
    step_seconds_p95: float | None = None
    samples_per_second: float | None = None
    peak_memory_bytes: int | None = None
    timed_steps: int = 0


@dataclass(frozen=True)
class Latency:
    """One chunk of actions for one row, from images in the processor's memory to actions there.

    Args:
        median, p95, fastest: Over the timed calls.
        calls: Their number.
        first: The very first call, with all that happens only once.
        warmup_calls: Calls before the timed ones.
        seconds: Every timed call.
    """

    median: float
    p95: float
    fastest: float
    calls: int
    first: float
    warmup_calls: int
    seconds: list[float]


@dataclass(frozen=True)
class Throughput:
    """Chunks a second with several rows in one forward pass.

    Args:
        batch_size: Rows.
        median: Of one call; None where memory did not suffice.
        chunks_per_second: ``batch_size / median``.
        peak_memory_bytes: Of one call.
    """

    batch_size: int
    median: float | None
    chunks_per_second: float | None
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Split:
    """Means over calls that wait for the device at every border between parts, which the other figures do not.

    Args:
        seconds: By part; they add up to ``total``.
        total: Of a whole call.
        new_sentence_text: The text part of a call whose sentence was never seen before. Frozen encoders remember
            sentences, and within an episode the sentence stays the same.
        calls: Their number.
    """

    seconds: dict[str, float]
    total: float
    new_sentence_text: float
    calls: int


@dataclass(frozen=True)
class Compiled:
    """What ``torch.compile`` did.

    Args:
        modules: Paths of the compiled modules.
        seconds: First call after compilation was asked for, which compiles.
        largest_difference: Between the normalised actions before and after.
    """

    modules: list[str]
    seconds: float
    largest_difference: float


@dataclass(frozen=True)
class BenchResult:
    """Everything; fields that were not measured are None or empty.

    Args:
        recipe: Name.
        weights: ``random``, or where they come from.
        device, dtype, threads: Where and in which numbers it ran.
        machine: Processor, cores, memory, accelerator.
        torch: Version.
        horizon, executed: Actions of a chunk, and how many of them the recipe's evaluation carries out.
        control_rate: Of the benchmark, in hertz.
        parameters: By path of the module.
        operations: Floating-point operations of a chunk by part.
        stages: Training.
        latency, split, throughput, compiled: See there.
        device_peak: Floating-point operations a second of a large matrix product of the same dtype in this run.
        share_of_peak: Operations of a chunk, over the median latency, over ``device_peak``.
    """

    recipe: str
    weights: str
    device: str
    dtype: str
    threads: int
    machine: dict[str, Any]
    torch: str
    horizon: int
    executed: int
    control_rate: float
    parameters: dict[str, int]
    operations: dict[str, int]
    stages: list[StageFacts] = field(default_factory=list)
    latency: Latency | None = None
    split: Split | None = None
    throughput: list[Throughput] = field(default_factory=list)
    compiled: Compiled | None = None
    device_peak: float | None = None
    share_of_peak: float | None = None

    @property
    def total_parameters(self) -> int:
        return sum(self.parameters.values())

    @property
    def total_operations(self) -> int:
        return sum(self.operations.values())


@dataclass(frozen=True)
class SweepRow:
    """One value of the varied field.

    Args:
        value: As written.
        latency: None on the meta device.
        operations: Of a chunk.
        action_error: Mean absolute error of normalised actions against those of demonstrations; None without
            trained weights or data.
    """

    value: Any
    latency: Latency | None
    operations: int
    action_error: float | None


@dataclass(frozen=True)
class SweepResult:
    """One recipe field, varied.

    Args:
        recipe, weights, device, dtype, machine: As in `BenchResult`.
        field: Its path.
        windows: Windows behind the action errors, and of which split.
        rows: One per value.
    """

    recipe: str
    weights: str
    device: str
    dtype: str
    machine: dict[str, Any]
    field: str
    windows: str
    rows: list[SweepRow]
