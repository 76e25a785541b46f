"""Evaluation episodes: an append-only log that survives a kill at any moment, and what it adds up to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.errors import StorageError
from videopolicy.outcomes.intervals import Interval, mean_over_tasks, wilson
from videopolicy.paths import ensure_regular
from videopolicy.storage.files import written_whole


class SubtaskRecord(BaseModel):
    """One sub-task of an episode that is a chain of them.

    Args:
        name: Of the sub-task.
        instruction: Its sentence.
        steps: Environment steps executed in it.
        success: Whether it was solved.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    instruction: str
    steps: int
    success: bool


class EpisodeRecord(BaseModel):
    """One evaluation episode, one line of ``episodes.jsonl``.

    Args:
        policy: ``trained``, ``untrained`` or ``random``.
        task: Name of the task.
        episode: Index of the initial state.
        success: Whether the task was solved.
        score: The benchmark's own measure, 1 or 0 where it has none but success.
        steps: Environment steps executed.
        seconds: Wall time.
        initial_state: Hash of the simulator's state before the first step; pairs episodes of several policies.
        protocol: Fingerprint of everything that makes results comparable.
        error: Why the simulator could not finish the episode; such an episode says nothing about the policy.
        instruction: The sentence with which it began; empty where it did not begin, and in records from before it was
            recorded.
        subtasks: Those that were begun, in order, where it is a chain of them; empty otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str
    task: str
    episode: int
    success: bool
    score: float
    steps: int
    seconds: float
    initial_state: str
    protocol: str
    error: str | None = None
    instruction: str = ""
    subtasks: tuple[SubtaskRecord, ...] = ()

    def begun_at(self, step: int) -> int:
        """The step at which the sub-task of a step began; 0 where there are none."""
        begun = 0
        for one in self.subtasks[:-1]:
            if step < begun + one.steps:
                break
            begun += one.steps
        return begun

    def sentence_at(self, step: int) -> str:
        """The sentence that the policy was conditioned on at a step; empty where it was not recorded."""
        end = 0
        for one in self.subtasks:
            end += one.steps
            if step < end:
                return one.instruction
        return self.subtasks[-1].instruction if self.subtasks else self.instruction

    @property
    def key(self) -> tuple[str, str, int]:
        """What this is the episode of; at most one record counts for it."""
        return self.policy, self.task, self.episode


@dataclass(frozen=True)
class LogContents:
    """What an episode log holds.

    Args:
        records: One for every (policy, task, episode), in the order in which they were first written: the first that
            did not end in an error of the simulator, else the last.
        problems: One sentence with file and line for every line that was skipped.
    """

    records: list[EpisodeRecord]
    problems: list[str]


class EpisodeLog:
    """``episodes.jsonl``: one JSON object a line and one line an episode, appended to by one process.

    A line is written with a single write and forced to disk before the next episode, so a kill leaves at most
    a torn last line. Reading ignores it; the next append removes it. Only a record of an error of the simulator is ever
    replaced, by that of the next try of its episode, and then the whole file is.

    Args:
        path: The file; it is made by the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._errors: set[tuple[str, str, int]] | None = None

    def append(self, record: EpisodeRecord) -> None:
        """Add one record, in the place of one of the same episode that ended in an error; it is on disk on return.

        Raises:
            StorageError: The file cannot be written; what it held before is kept.
        """
        line = record.model_dump_json().encode() + b"\n"
        try:
            if self._errors is None:
                self._errors = {one.key for one in self.read() if one.error is not None}
            if record.key in self._errors:
                self._replace(record.key, line)
            else:
                self._append(line)
        except OSError as error:
            raise StorageError(
                f"The episode record cannot be written to {self.path}: {error.strerror or error}.",
                "Make room or make the folder writable and run the same command again; finished episodes are kept.",
            ) from error
        if record.error is not None:
            self._errors.add(record.key)
        else:
            self._errors.discard(record.key)

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b", buffering=0) as file:
            end = self._end_of_complete_lines(file.fileno())
            file.truncate(end)
            written = file.write(line)
            if written != len(line):
                file.truncate(end)
                raise OSError("no space left on device")
            os.fsync(file.fileno())

    def _replace(self, key: tuple[str, str, int], line: bytes) -> None:
        """Rewrite the file without the errors of an episode; lines that are no records stay."""
        lines = self.path.read_bytes().split(b"\n")[:-1]
        kept = [one + b"\n" for one in lines if not _is_error_of(one, key)]
        with written_whole(self.path) as part:
            part.write_bytes(b"".join([*kept, line]))

    @staticmethod
    def _end_of_complete_lines(descriptor: int) -> int:
        """Offset behind the last newline; only the torn tail is read, from the back."""
        size = os.fstat(descriptor).st_size
        position, block = size, 4096
        while position > 0:
            start = max(0, position - block)
            newline = os.pread(descriptor, position - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            position = start
        return 0

    def contents(self) -> LogContents:
        """All records, and what was wrong with the lines that are none. A missing file is an empty log.

        Raises:
            StorageError: It is no file.
        """
        ensure_regular(self.path, StorageError, "Restore the file, or move the run's folder away.")
        try:
            lines = self.path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn
        except FileNotFoundError:
            return LogContents([], [])
        if (clean := _all_at_once(lines)) is not None:
            return LogContents(clean, [])
        found: dict[tuple[str, str, int], tuple[int, EpisodeRecord]] = {}
        problems = []
        for number, line in enumerate(lines, start=1):
            try:
                record = EpisodeRecord.model_validate_json(line)
            except ValidationError as error:
                problems.append(f"{self.path}:{number}: not an episode record, skipped ({_reason(error)})")
                continue
            earlier = found.get(record.key)
            if earlier is not None and earlier[1].error is None:
                which = f"{record.policy} {record.task} episode {record.episode}"
                problems.append(f"{self.path}:{number}: repeats {which} of line {earlier[0]}, skipped")
            else:
                found[record.key] = (number, record)
        return LogContents([record for _, record in found.values()], problems)

    def read(self) -> list[EpisodeRecord]:
        """The records alone; `contents` also says which lines were skipped and why."""
        return self.contents().records

    @property
    def done(self) -> set[tuple[str, str, int]]:
        """The (policy, task, episode) that have a record, those that ended in an error included."""
        return {record.key for record in self.read()}

    @property
    def finished(self) -> set[tuple[str, str, int]]:
        """Those that need not run again: a policy's failure is final, an error of the simulator is not."""
        return {record.key for record in self.read() if record.error is None}


_RECORDS = TypeAdapter(list[EpisodeRecord])


def _all_at_once(lines: list[bytes]) -> list[EpisodeRecord] | None:
    """The records of a log in which nothing is wrong, several times as fast as line by line; None for others."""
    try:
        records = _RECORDS.validate_json(b"[" + b",".join(lines) + b"]")
    except ValidationError:
        return None
    return records if len({record.key for record in records}) == len(lines) else None


def _is_error_of(line: bytes, key: tuple[str, str, int]) -> bool:
    try:
        record = EpisodeRecord.model_validate_json(line)
    except ValidationError:
        return False
    return record.key == key and record.error is not None


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


@dataclass(frozen=True)
class Rate:
    """A success rate with what is needed to judge it.

    Args:
        name: Task, tier, or ``mean``.
        value: Success rate; None before the first finished episode.
        interval: Its 95 % interval.
        successes: Successful episodes.
        episodes: Finished episodes, without those that ended in an error.
        errors: Episodes that the simulator could not finish; in no other number.
        tasks: Number of tasks with finished episodes.
        missing: Tasks without a finished episode, which the value therefore leaves out.
        metrics: The benchmark's further numbers.
    """

    name: str
    value: float | None
    interval: Interval
    successes: int
    episodes: int
    errors: int
    tasks: int = 1
    missing: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicySummary:
    """Success of one policy.

    Args:
        policy: ``trained``, ``untrained`` or ``random``.
        tasks: In the benchmark's order.
        tiers: Means over the tasks of every tier, where the benchmark has tiers.
        mean: Mean over all tasks, each with the same weight.
    """

    policy: str
    tasks: tuple[Rate, ...]
    tiers: tuple[Rate, ...]
    mean: Rate

    def task(self, name: str) -> Rate | None:
        return next((rate for rate in self.tasks if rate.name == name), None)


POLICIES = ("trained", "untrained", "random")
"""The order in which policies are reported; others follow in the order in which they were recorded."""


def summarise(
    records: Iterable[EpisodeRecord], benchmark: BenchmarkComponent | None = None
) -> dict[str, PolicySummary]:
    """Add episodes up by policy.

    Args:
        records: Episodes; a repeated (policy, task, episode) counts once, as in `LogContents`.
        benchmark: Says which tasks count, their order and tiers, and further metrics. Without it the recorded
            tasks count in order of appearance.

    Returns:
        A summary per policy, in the order of `POLICIES`.
    """
    unique: dict[tuple[str, str, int], EpisodeRecord] = {}
    for record in records:
        if record.key not in unique or unique[record.key].error is not None:
            unique[record.key] = record
    if benchmark is None:
        tiers = {record.task: "" for record in unique.values()}
    else:
        tiers = {task.name: task.tier for task in benchmark.tasks()}
    by_policy: dict[str, dict[str, list[EpisodeRecord]]] = {}
    for record in unique.values():
        if record.task in tiers:
            by_policy.setdefault(record.policy, {name: [] for name in tiers})[record.task].append(record)
    order = [name for name in POLICIES if name in by_policy] + [name for name in by_policy if name not in POLICIES]
    return {policy: _summary(policy, by_policy[policy], tiers, benchmark) for policy in order}


def _summary(
    policy: str, episodes: dict[str, list[EpisodeRecord]], tiers: dict[str, str], benchmark: BenchmarkComponent | None
) -> PolicySummary:
    tasks = tuple(task_rate(name, records, benchmark) for name, records in episodes.items())
    named_tiers = dict.fromkeys(tier for tier in tiers.values() if tier)
    everything = [record for records in episodes.values() for record in records]
    return PolicySummary(
        policy,
        tasks,
        tuple(mean_rate(tier, [rate for rate in tasks if tiers[rate.name] == tier]) for tier in named_tiers),
        mean_rate("mean", tasks, _metrics(everything, benchmark)),
    )


def _metrics(records: Sequence[EpisodeRecord], benchmark: BenchmarkComponent | None) -> dict[str, float]:
    if benchmark is None or type(benchmark).metrics is BenchmarkComponent.metrics:
        return {}
    finished = [record.model_dump() for record in records if record.error is None]
    return benchmark.metrics(finished) if finished else {}


def task_rate(name: str, records: Sequence[EpisodeRecord], benchmark: BenchmarkComponent | None) -> Rate:
    """Success over the episodes of one task.

    Args:
        name: Of the task.
        records: Its episodes.
        benchmark: Says further metrics; None for none.
    """
    finished = [record for record in records if record.error is None]
    successes = sum(record.success for record in finished)
    return Rate(
        name,
        successes / len(finished) if finished else None,
        wilson(successes, len(finished)),
        successes,
        len(finished),
        len(records) - len(finished),
        missing=() if finished else (name,),
        metrics=_metrics(records, benchmark),
    )


def mean_rate(name: str, tasks: Sequence[Rate], metrics: dict[str, float] | None = None) -> Rate:
    """Mean over tasks, each with the same weight.

    Args:
        name: Of the mean.
        tasks: Rates; those without a finished episode are left out and named.
        metrics: The benchmark's further numbers over all of them.
    """
    measured = [rate for rate in tasks if rate.value is not None]
    return Rate(
        name,
        sum(rate.successes / rate.episodes for rate in measured) / len(measured) if measured else None,
        mean_over_tasks([(rate.successes, rate.episodes) for rate in measured]),
        sum(rate.successes for rate in measured),
        sum(rate.episodes for rate in measured),
        sum(rate.errors for rate in tasks),
        len(measured),
        tuple(rate.name for rate in tasks if rate.value is None),
        metrics or {},
    )
