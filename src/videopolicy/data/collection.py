"""Demonstrations from a benchmark's own experts, or from whatever else solves tasks in its simulator.

Which episodes are kept depends on nothing but the request: the first successes of every task in order of attempt,
whatever the number of workers, and however often collection was killed on the way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.console.progress import Reporter
from videopolicy.contracts.benchmark import DemonstrationRequest, Task
from videopolicy.contracts.dataset import Episode, EpisodeWriter
from videopolicy.errors import SimulationError
from videopolicy.simulators.workers import WorkerPool

TRIES_PER_ATTEMPT = 2
"""How often an attempt is begun before a worker that dies on it makes it a failed one."""
ATTEMPTS_PER_EPISODE = 10
"""Attempts per wanted episode after which an expert counts as unable."""
ERRORS_IN_A_ROW = 6
"""Workers that die one after the other, with no answer between them, after which collection gives up."""

Conversation = Generator[tuple[str, dict[str, Any]], Any, dict[str, Any]]
"""An attempt: yields calls of the simulator (a method and its arguments), is sent the answers, and returns what
`vpolicy_worker.Simulator.demonstrate` returns."""
Ask = Callable[[str, int], Conversation]
"""Begins an attempt, given by its task and its number."""

SCRIPTED = "scripted"
"""An expert that says nothing of itself."""

_DIED: dict[str, Any] = {
    "images": {},
    "actions": np.zeros((0, 0)),
    "state": None,
    "initial_state": "",
    "success": False,
}


@dataclass
class Collected:
    """What was collected.

    Args:
        folder: Where the dataset lies.
        episodes: Kept episodes by task.
        steps: Environment steps rendered now, those of failed attempts included; 0 if all was there already.
    """

    folder: Path
    episodes: dict[str, int]
    steps: int


def experts(noise: float) -> Callable[[WorkerPool], Ask]:
    """Asks the benchmark's own experts.

    Args:
        noise: See `DemonstrationRequest`.
    """

    def ask(task: str, attempt: int) -> Conversation:
        return (yield "demonstrate", {"task": task, "attempt": attempt, "action_noise": noise})

    return lambda pool: ask


def collect(
    benchmark: BenchmarkComponent,
    request: DemonstrationRequest,
    writer: EpisodeWriter,
    python: Path,
    workers: int,
    log_folder: Path,
    reporter: Reporter,
    begin: Callable[[WorkerPool], Ask] | None = None,
    label: str = "collect demonstrations",
) -> Collected:
    """Collect demonstrations, or go on with it: attempts that the writer has already are not repeated.

    Args:
        benchmark: In whose simulator tasks are solved.
        request: How many, and how.
        writer, python, workers, log_folder, reporter: See `record`.
        begin: See `record`; None: `experts`.
        label: What is said to be done.

    Raises:
        SimulationError: The simulator cannot be started or keeps dying, or too many attempts fail.
    """
    plans = [_FirstSuccesses(task, request) for task in benchmark.tasks()]
    begin = begin or experts(request.action_noise)
    return record(benchmark, plans, writer, python, workers, log_folder, reporter, begin, label)


def record(
    benchmark: BenchmarkComponent,
    plans: Sequence[Plan],
    writer: EpisodeWriter,
    python: Path,
    workers: int,
    log_folder: Path,
    reporter: Reporter,
    begin: Callable[[WorkerPool], Ask],
    label: str,
) -> Collected:
    """Make the attempts that are planned, or go on with it: those that the writer has already are not repeated.

    Args:
        benchmark: In whose simulator they are made.
        plans: Which, of every task.
        writer: Where episodes go, each of them safely on disk before the next.
        python: Interpreter of the simulator.
        workers: Simulator processes.
        log_folder: For their output.
        reporter: Shows progress.
        begin: Called once with the workers, where anything is left to do.
        label: What is said to be done.

    Raises:
        SimulationError: The simulator cannot be started or keeps dying.
    """
    named = {plan.task.name: plan for plan in plans}
    for name, attempts in writer.present().items():
        if name in named:
            named[name].known.update(attempts)
    total = sum(plan.wanted for plan in plans)
    done = sum(len(plan.chosen()) for plan in plans)
    steps, longest = 0, max(plan.task.max_steps for plan in plans)
    if done < total:
        spec, count = benchmark.launch(), min(workers, total - done)
        with (
            WorkerPool(spec, python, count, log_folder, benchmark.spaces(), longest) as pool,
            reporter.activity(label, total, done) as progress,
        ):
            pool.ensure_started()  # whatever keeps the simulator from starting is an error, not a failed attempt
            ask = begin(pool)
            for plan, attempt, answer in _attempts(pool, plans, ask):
                episode = plan.episode(attempt, answer)
                writer.add(episode)
                plan.known[attempt] = episode.success
                steps += len(episode.actions)
                progress.advance(int(episode.success), plan.task.name)
    chosen = {plan.task.name: plan.chosen() for plan in plans}
    return Collected(writer.finish(chosen), {name: len(attempts) for name, attempts in chosen.items()}, steps)


class Plan(ABC):
    """Which attempts are made at one task; what of it is known and under way.

    Args:
        task: The task.
        wanted: How many episodes are to be kept.
    """

    def __init__(self, task: Task, wanted: int) -> None:
        self.task, self.wanted = task, wanted
        self.known: dict[int, bool] = {}
        self.running: set[int] = set()

    @abstractmethod
    def chosen(self) -> list[int]:
        """The attempts to keep, of those that are known."""

    @abstractmethod
    def next(self) -> int | None:
        """The next attempt to make; None for none now."""

    def give_up(self, attempt: int, error: SimulationError) -> None:
        """Take note of an attempt on which workers keep failing."""
        self.known[attempt] = False

    def episode(self, attempt: int, answer: dict[str, Any] | None) -> Episode:
        """What a finished attempt has become; ``answer`` is None where it was given up."""
        return _episode(self.task, attempt, answer)


class _FirstSuccesses(Plan):
    """One attempt after the other until enough have succeeded."""

    def __init__(self, task: Task, request: DemonstrationRequest) -> None:
        super().__init__(task, request.episodes_per_task)
        self.first = request.first_attempt

    def chosen(self) -> list[int]:
        return [attempt for attempt in sorted(self.known) if self.known[attempt] and attempt >= self.first][
            : self.wanted
        ]

    def next(self) -> int | None:
        """The next attempt that is needed even if everything under way succeeds; None for none now.

        One worker after the other would have come to the same attempts, so none is ever superfluous.
        """
        attempt, hoped = self.first, 0
        while hoped < self.wanted:
            if attempt not in self.known and attempt not in self.running:
                self._check(attempt)
                return attempt
            hoped += self.known.get(attempt, True)
            attempt += 1
        return None

    def _check(self, attempt: int) -> None:
        tried = attempt - self.first
        if tried >= ATTEMPTS_PER_EPISODE * self.wanted:
            raise SimulationError(
                f"The demonstrator of task '{self.task.name}' solved {len(self.chosen())} of {tried} attempts; "
                f"{self.wanted} episodes are wanted.",
                "Lower the action noise, raise the step limit, ask for fewer episodes, or leave this task out.",
            )


def _attempts(pool: WorkerPool, plans: Sequence[Plan], ask: Ask) -> Iterator[tuple[Plan, int, dict[str, Any] | None]]:
    """Keep all workers busy; yield (plan, attempt, answer), the answer None where workers died on the attempt.

    That is the attempt's fault once another one has been answered afterwards. Until then the machine may be to blame,
    and where it is, the attempt stays untried: it must not become a failed one for good.
    """
    running: dict[int, tuple[Plan, int, Conversation]] = {}
    last: dict[int, str] = {}
    tries: defaultdict[tuple[str, int], int] = defaultdict(int)
    errors = 0
    died: list[tuple[Plan, int]] = []
    while True:
        for index in range(len(pool)):
            if index not in running and (plan := _choose(plans, last.get(index))) is not None:
                attempt = plan.next()
                assert attempt is not None
                plan.running.add(attempt)
                conversation = ask(plan.task.name, attempt)
                running[index], last[index] = (plan, attempt, conversation), plan.task.name
                tries[plan.task.name, attempt] += 1
                method, arguments = next(conversation)
                pool.send(index, method, **arguments)
        if not running:
            yield from ((plan, attempt, None) for plan, attempt in died)
            return
        for index, answer in pool.wait():
            plan, attempt, conversation = running[index]
            whole = None
            if not isinstance(answer, SimulationError):
                try:
                    method, arguments = conversation.send(answer)
                except StopIteration as end:
                    whole = end.value
                else:
                    pool.send(index, method, **arguments)
                    continue
            del running[index]
            plan.running.remove(attempt)
            if not isinstance(answer, SimulationError):
                errors = 0
                yield from ((plan, attempt, None) for plan, attempt in died)
                died = []
                yield plan, attempt, whole
                continue
            errors += 1
            if errors >= ERRORS_IN_A_ROW:
                raise answer
            if tries[plan.task.name, attempt] >= TRIES_PER_ATTEMPT:
                plan.give_up(attempt, answer)
                died.append((plan, attempt))


def _choose(plans: Sequence[Plan], last: str | None) -> Plan | None:
    """A task with something to do: the worker's last one, else one that nobody works on, else any."""
    ready = [plan for plan in plans if plan.next() is not None]
    return min(ready, key=lambda plan: (plan.task.name != last, len(plan.running)), default=None)


def _episode(task: Task, attempt: int, answer: dict[str, Any] | None) -> Episode:
    facts = answer or _DIED
    return Episode(
        task=task.name,
        instruction=facts.get("instruction", task.instruction),
        images=facts["images"],
        actions=facts["actions"],
        state=facts["state"],
        initial_state=facts["initial_state"],
        success=facts["success"],
        attempt=attempt,
        states=facts.get("states"),
        arrays=facts.get("arrays", {}),
        # Whoever solves tasks in a simulator's process is a program.
        facts={"expert": SCRIPTED, **facts.get("facts", {})},
    )
