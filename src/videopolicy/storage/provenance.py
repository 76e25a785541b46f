"""What is recorded of a run and of its parts: one model for each, which whoever reads a run folder gets too.

Fields that an older or newer version did not write have defaults; those that it wrote besides are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class Facts(BaseModel):
    """Base of what is recorded."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Machine(Facts):
    """Where something ran.

    Args:
        processor: Its name.
        cores: Those that the process may use.
        memory_bytes: Of the machine.
        accelerator: Name of the first one; None without any.
        python: Version.
        platform: Operating system.
    """

    processor: str = ""
    cores: int | None = None
    memory_bytes: int | None = None
    accelerator: str | None = None
    python: str = ""
    platform: str = ""


class StageFacts(Facts):
    """A finished stage of training, its ``done.json``.

    Args:
        version: Of this format.
        name: Of the stage.
        target: Path of what it trained.
        key: Identifies the result.
        steps: Optimiser steps.
        devices: Number of devices that trained it.
        device: Name of the accelerator or processor.
        accelerator: Whether the device is an accelerator.
        precision: The numerical precision that was used, several where another machine continued in another one;
            None where it was not recorded, and where nothing was trained.
        remarks: What was done otherwise than the recipe says, in sentences.
        parameters, trainable_parameters: Of the learner.
        seconds: By the clock.
        processor_seconds: Over all threads, those of frozen features included; None where it was not recorded.
        peak_memory_bytes: Resident memory of the process and its children.
        final_losses: Means over the end of the stage, by name.
        reused: Whether an earlier run trained it.
    """

    version: Literal[1] = 1
    name: str = ""
    target: str = ""
    key: str = ""
    steps: int = 0
    devices: int = 1
    device: str | None = None
    accelerator: bool = False
    precision: str | None = None
    remarks: tuple[str, ...] = ()
    parameters: int | None = None
    trainable_parameters: int | None = None
    seconds: float | None = None
    processor_seconds: float | None = None
    peak_memory_bytes: int | None = None
    final_losses: dict[str, float] = Field(default_factory=dict)
    reused: bool = False


class DataFacts(Facts):
    """Demonstrations that were collected.

    Args:
        key: Identifies them.
        type: Of the dataset.
        benchmark: Whose experts were asked.
        folder: Of the dataset, relative to that of the artifact.
        episodes: Kept ones by task.
        seconds: By the clock.
        steps: Rendered steps, those of failed attempts included.
        steps_per_second: The same by the clock.
        reused: Whether an earlier run collected them.
    """

    key: str = ""
    type: str = ""
    benchmark: str = ""
    folder: str = ""
    episodes: dict[str, int] = Field(default_factory=dict)
    seconds: float | None = None
    steps: int | None = None
    steps_per_second: float | None = None
    reused: bool = False


class ChunkSeconds(Facts):
    """Wall times of one forward pass of the whole batch; None where there was none."""

    median: float | None = None
    p95: float | None = None


class WorkerShares(Facts):
    """What the simulator workers' time went into, as fractions of all of it.

    Args:
        simulation: Physics, resets, and whatever else the simulator does.
        rendering: Pictures for the policy.
        transport: Between the processes.
        policy: The worker stood still while a forward pass was computed.
        waiting: It stood still for another reason.
    """

    simulation: float = 0.0
    rendering: float = 0.0
    transport: float = 0.0
    policy: float = 0.0
    waiting: float = 0.0


class EvaluationFacts(Facts):
    """An evaluation.

    Args:
        seconds: By the clock.
        episodes: Of every task.
        workers: Simulator processes.
        batch_size: Rows of every forward pass.
        precision: In which policies compute.
        compile, graphs: Whether they are compiled, and captured as CUDA graphs.
        seconds_per_chunk: By policy.
        executor: The engine that ran the episodes.
        steps_per_second: Environment steps of all workers together by the clock; None where it was not recorded.
        shares: Of the workers' time; None where it was not recorded.
        episodes_from_demonstrated_states: Those that began in a state from which a demonstration began; None where the
            data say no initial states.
    """

    seconds: float | None = None
    episodes: int | None = None
    workers: int | None = None
    batch_size: int | None = None
    precision: str = "fp32"
    compile: bool = False
    graphs: bool = False
    seconds_per_chunk: dict[str, ChunkSeconds] = Field(default_factory=dict)
    executor: str = "local"
    steps_per_second: float | None = None
    shares: WorkerShares | None = None
    episodes_from_demonstrated_states: int | None = None


class ReportFacts(Facts):
    """The report that was written last.

    Args:
        key: Identifies what it shows.
        sha256: Of the page.
    """

    key: str = ""
    sha256: str = ""


class Provenance(Facts):
    """``provenance.json``: what a run was made of, rewritten after every step, so that a killed run has it too.

    Args:
        version: Of this format.
        name: Of the run.
        command: As typed.
        commit: Of the source tree, where there is one.
        versions: By package or plugin file.
        machine: Where it ran last.
        started, finished: Time in UTC, ISO 8601; ``finished`` is empty for an unfinished run.
        seconds: By the clock, over all processes that worked on it one after another.
        peak_memory_bytes: Resident memory, simulator workers included.
        data: Demonstrations; None where none were asked for.
        data_remarks: What was guessed or changed when the data were read, and what is odd about them.
        stages: In the order in which they were finished.
        evaluation: The last one that ran episodes; None before.
        report: The one beside it; None where a command has ended before it wrote one.
    """

    version: Literal[1] = 1
    name: str = ""
    command: str = ""
    commit: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    machine: Machine = Machine()
    started: str = ""
    finished: str = ""
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    data: DataFacts | None = None
    data_remarks: tuple[str, ...] = ()
    stages: tuple[StageFacts, ...] = ()
    evaluation: EvaluationFacts | None = None
    report: ReportFacts | None = None

    def with_stage(self, facts: StageFacts) -> Provenance:
        """The same with a stage; one of the same name is replaced."""
        others = tuple(stage for stage in self.stages if stage.name != facts.name)
        return self.model_copy(update={"stages": (*others, facts)})

    def stage(self, name: str) -> StageFacts | None:
        """What was recorded of a stage; None for an unfinished one."""
        return next((stage for stage in self.stages if stage.name == name), None)


class SimulatorFacts(Facts):
    """What a simulator says of itself where it runs: results depend on it, and a recipe does not fix it.

    Args:
        versions: Of its packages, the physics engine among them.
        rendering: What makes its pictures, such as ``egl, llvmpipe (software)``; empty where it does not say.
        conventions: Image orientation, settling steps, action space and the like, as plain data.
    """

    versions: dict[str, str] = Field(default_factory=dict)
    rendering: str = ""
    conventions: dict[str, JsonValue] = Field(default_factory=dict)

    def in_protocol(self) -> dict[str, Any]:
        """The entries of a protocol that it makes; there is none for what was not said."""
        return {f"simulator_{name}": value for name, value in self.model_dump(mode="json").items() if value}


class RunIdentity(Facts):
    """``identity.json``: what must stay equal for episodes to belong into one run folder.

    Args:
        version: Of this format.
        stages: Keys of all stages, in the recipe's order; empty before they are known.
        acting: Digest of the policy's options, those that matter only when acting included.
        protocol: Of the benchmark, as far as it is known without its simulator.
        simulator: What the simulator of the episodes said of itself; None before the first one has begun.
        execute: Actions of a chunk that are executed.
        batch_size: Rows of every forward pass: another number rounds differently.
        precision: In which policies compute.
        compile, graphs: Whether they are compiled, and captured as CUDA graphs: both round differently.
        seed: Of the run.
    """

    version: Literal[1] = 1
    stages: tuple[str, ...] = ()
    acting: str = ""
    protocol: dict[str, Any] = Field(default_factory=dict)
    simulator: SimulatorFacts | None = None
    execute: int | None = None
    batch_size: int | None = None
    precision: str = "fp32"
    compile: bool = False
    graphs: bool = False
    seed: int | None = None

    @property
    def whole_protocol(self) -> dict[str, Any]:
        """All that the fingerprint in the records is of."""
        return {**self.protocol, **(self.simulator.in_protocol() if self.simulator else {})}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The entries in which two protocols differ, by dotted name: ours and theirs, ``nothing`` for none."""
    one, other = dict(_entries(ours)), dict(_entries(theirs))
    return {
        name: (one.get(name, "nothing"), other.get(name, "nothing"))
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    }


def _entries(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _entries(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value, default=str)
