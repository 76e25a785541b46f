"""Runs evaluation episodes: simulators in workers, one forward pass for all live episodes.

An episode's outcome depends on nothing but its task, its index and the seed. Its noise comes from a generator
of its own, and its row in the batch, whose size never changes, follows from its number: neither the number of
workers nor the episodes that happen to share a batch can reach it. So the policy decides for whoever is there, and
nobody stands still for a worker that takes long.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from videopolicy.console.progress import Reporter
from videopolicy.contracts.benchmark import Task
from videopolicy.errors import EvaluationStoppedError, SimulationError
from videopolicy.evaluation.acting import Actor, History, Seen, last_actions, stack_observations
from videopolicy.evaluation.subtasks import Chain
from videopolicy.evaluation.usage import Timekeeper, Usage
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord
from videopolicy.recipes.recipe import Evaluation
from videopolicy.seeds import derived_seed
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.files import written_whole
from videopolicy.storage.run_folder import RunFolder
from videopolicy.types import RowGenerator, Window

TRIES = 2
"""How often an episode is begun before the error of its simulator is recorded."""
ERRORS_IN_A_ROW = 3
"""Episodes that end in errors one after the other, with none finished between them, after which evaluation stops."""
PATIENCE = 1.25
"""How long a decision waits for a worker that is not there yet, in forward passes. One pass costs the same for one row
as for all: deciding for everybody alone would cost a pass each, and two workers that are a pass apart stay so for ever
unless the first one waits a little longer than that."""
_REMEMBERED_PASSES = 8
"""Over so many of the last forward passes their duration is averaged."""


@dataclass
class Job:
    """One episode to run.

    Args:
        number: Its place among all episodes of the evaluation; fixes its row in the batch.
        task: What is to be done.
        episode: Index of the initial state.
        attempts: How often it was begun.
    """

    number: int
    task: Task
    episode: int
    attempts: int = 0


@dataclass
class _Live:
    """An episode in progress."""

    job: Job
    generator: torch.Generator
    history: History
    chain: Chain
    initial_state: str
    started: float
    ready: float | None
    """Since when it waits for a decision; None while its simulator executes one."""
    steps: int = 0
    score: float = -math.inf
    actions: list[np.ndarray] = field(default_factory=list)
    earlier: int = 0
    """Chunks of earlier sub-tasks, of which the policy knows nothing any more."""


@dataclass
class _Floor:
    """What is going on: jobs that wait for a worker, and by index what every worker does.

    Args:
        waiting: Jobs that nobody has.
        starting: Being reset, and since when.
        parked: Reset, with the answer; their row in the batch is still another episode's.
        live: Acting.
    """

    waiting: deque[Job]
    starting: dict[int, tuple[Job, float]] = field(default_factory=dict)
    parked: dict[int, tuple[Job, dict[str, Any]]] = field(default_factory=dict)
    live: dict[int, _Live] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.starting or self.parked or self.live)

    def job(self, index: int) -> Job | None:
        """What a worker is at."""
        if index in self.live:
            return self.live[index].job
        return next((held[index][0] for held in (self.starting, self.parked) if index in held), None)


@dataclass
class Rollout:
    """Runs one policy's episodes.

    Args:
        actor: Chooses the actions.
        policy: Name of the row in the table.
        window: The frames and past actions that the policy sees.
        action_dim: A.
        settings: Batch size, workers, executed actions.
        pool: Simulator workers.
        log: Where records go.
        protocol: Fingerprint of the benchmark's protocol.
        seed: Of the run.
        reporter: Shows progress.
        folder: Of the run, which gets the executed actions; None keeps none.
    """

    actor: Actor
    policy: str
    window: Window
    action_dim: int
    settings: Evaluation
    pool: WorkerPool
    log: EpisodeLog
    protocol: str
    seed: int
    reporter: Reporter
    folder: RunFolder | None = None
    chunk_seconds: list[float] = field(default_factory=list)
    """Wall time of every forward pass of the batch."""
    usage: Usage = field(default_factory=Usage)
    """What the workers' time went into."""
    _time: Timekeeper = field(default_factory=lambda: Timekeeper(0), repr=False)

    def run(self, tasks: Sequence[Task], only: Collection[tuple[str, int]] | None = None) -> None:
        """Run every episode that the log does not have yet, those that ended in an error of the simulator included.

        Args:
            tasks: All tasks of the benchmark: an episode's number follows from its place among them.
            only: Task and episode of those that are wanted; None for all.

        Raises:
            EvaluationStoppedError: Episodes in a row ended in errors.
        """
        jobs = [
            Job(index * self.settings.episodes + episode, task, episode)
            for index, task in enumerate(tasks)
            for episode in range(self.settings.episodes)
            if only is None or (task.name, episode) in only
        ]
        done = self.log.finished
        waiting = deque(job for job in jobs if (self.policy, job.task.name, job.episode) not in done)
        if not waiting:
            return
        floor = _Floor(waiting)
        self._time = Timekeeper(len(self.pool))
        successes = 0
        errors: list[str] = []  # since the last episode that was finished
        with self.reporter.activity(f"evaluate {self.policy}", len(jobs), len(jobs) - len(waiting)) as progress:
            while floor.busy:
                self._start(floor)
                answers = self.pool.wait(self._patience(floor))
                for index, answer in answers:
                    record = self._receive(index, answer, floor)
                    if record is not None:
                        self.log.append(record)
                        successes += record.success
                        progress.advance(1, f"{successes} solved")
                        errors = [] if record.error is None else [*errors, record.error]
                if len(errors) >= ERRORS_IN_A_ROW:
                    raise stopped(f"{len(errors)} episodes in a row", self.policy, errors[-1])
                self._seat(floor)
                if not answers:
                    self._decide(floor)
        self.usage = self._time.usage()

    def _start(self, floor: _Floor) -> None:
        """Give every idle worker the next episode whose row in the batch is free, else the next one to reset."""
        for index in range(len(self.pool)):
            if not floor.waiting:
                return
            if floor.job(index) is not None:
                continue
            held = (floor.job(other) for other in range(len(self.pool)))
            taken = {self._row(job) for job in held if job is not None}
            job = next((job for job in floor.waiting if self._row(job) not in taken), floor.waiting[0])
            floor.waiting.remove(job)
            job.attempts += 1
            floor.starting[index] = (job, time.perf_counter())
            self._send(index, "reset", task=job.task.name, episode=job.episode)

    def _row(self, job: Job) -> int:
        return job.number % self.settings.batch_size

    def _send(self, index: int, method: str, **arguments: Any) -> None:
        self._time.asked(index)
        self.pool.send(index, method, **arguments)

    def _patience(self, floor: _Floor) -> float | None:
        """Seconds that the next decision may wait for answers; None: as long as it takes, as nobody else is there.

        A worker that executes a chunk is waited for about as long as a forward pass takes. One that makes a reset is
        so once: while it has not taken longer than that.
        """
        ready = [one.ready for one in floor.live.values() if one.ready is not None]
        if not ready:
            return None
        passes = self.chunk_seconds[-_REMEMBERED_PASSES:]
        patience = PATIENCE * sum(passes) / len(passes) if passes else 0.0
        began = [since for _, since in floor.starting.values()]
        if len(ready) < len(floor.live):
            began.append(min(ready))
        return max(0.0, max(began, default=-math.inf) + patience - time.perf_counter())

    def _receive(self, index: int, answer: Any, floor: _Floor) -> EpisodeRecord | None:
        failed = isinstance(answer, SimulationError)
        self._time.answered(index, self.pool.transmitted(index), None if failed else answer.get("seconds"))
        episode = floor.live.get(index)
        if episode is not None and not failed:
            answer = _as_agreed(episode, answer)
        if isinstance(answer, SimulationError):
            job = floor.live.pop(index).job if episode is not None else floor.starting.pop(index)[0]
            if job.attempts < TRIES:
                floor.waiting.appendleft(job)
                self.reporter.line(f"{answer.message.splitlines()[0]} {job.task.name} {job.episode} is tried again.")
                return None
            return self._record(job, error=answer.message)
        if episode is None:
            floor.parked[index] = (floor.starting.pop(index)[0], answer)
            return None
        self._time.steps += answer["steps"]
        episode.ready = time.perf_counter()
        episode.steps += answer["steps"]
        episode.score = max(episode.score, float(answer["score"]))
        episode.actions[-1] = episode.actions[-1][: answer["steps"]]
        episode.history.add(answer["steps"], answer["observations"])
        if episode.chain.take(answer):
            self.actor.reset([self._row(episode.job)])
            episode.history = History(self.window.observed, answer["observation"])
            episode.earlier = len(episode.actions)
        if not (answer["success"] or answer["done"]):
            return None
        del floor.live[index]
        self._keep(episode)
        return self._record(
            episode.job,
            success=bool(answer["success"]),
            score=episode.score,
            steps=episode.steps,
            seconds=round(time.monotonic() - episode.started, 3),
            initial_state=episode.initial_state,
            instruction=episode.chain.first_instruction,
            subtasks=tuple(episode.chain.ended),
        )

    def _seat(self, floor: _Floor) -> None:
        """Let episodes begin that are reset and whose row in the batch is free, the lower number first."""
        taken = {self._row(one.job) for one in floor.live.values()}
        for index, (job, answer) in sorted(floor.parked.items(), key=lambda item: item[1][0].number):
            row = self._row(job)
            if row in taken:
                continue
            taken.add(row)
            del floor.parked[index]
            self.actor.reset([row])
            floor.live[index] = _Live(
                job,
                torch.Generator().manual_seed(derived_seed(self.seed, self.policy, job.task.name, job.episode)),
                History(self.window.observed, answer["observation"]),
                Chain(job.task, answer),
                answer["initial_state"],
                time.monotonic(),
                time.perf_counter(),
            )

    def _record(self, job: Job, **facts: Any) -> EpisodeRecord:
        empty = {"success": False, "score": 0.0, "steps": 0, "seconds": 0.0, "initial_state": ""}
        return EpisodeRecord(
            policy=self.policy,
            task=job.task.name,
            episode=job.episode,
            protocol=self.protocol,
            **{**empty, **facts},
        )

    def _keep(self, episode: _Live) -> None:
        if self.folder is None:
            return
        path = self.folder.trajectory(self.policy, episode.job.task.name, episode.job.episode)
        with written_whole(path) as part, part.open("wb") as file:
            np.save(file, np.concatenate(episode.actions))

    def _decide(self, floor: _Floor) -> None:
        """One forward pass for all episodes that wait for it, then the next chunk for each of them."""
        ready = {index: episode for index, episode in floor.live.items() if episode.ready is not None}
        if not ready:
            return
        rows: list[Seen | None] = [None] * self.settings.batch_size
        generators = [torch.Generator() for _ in rows]
        for episode in ready.values():
            row = self._row(episode.job)
            rows[row] = Seen(episode.history.observed(), episode.chain.instruction, self._past(episode))
            generators[row] = episode.generator
        observation = stack_observations(rows)
        if not self.chunk_seconds:
            self.actor.prepare(observation)
        started = time.perf_counter()
        actions = self.actor.act(observation, RowGenerator(generators))
        ended = time.perf_counter()
        self.chunk_seconds.append(ended - started)
        self._time.passed(started, ended)
        for index, episode in ready.items():
            count = min(self.settings.execute, episode.job.task.max_steps - episode.steps)
            chunk = actions[self._row(episode.job), :count].astype(np.float32)
            episode.actions.append(chunk)
            episode.ready = None
            self._send(index, "step", actions=chunk, frames=episode.history.wanted(self.settings.execute))

    def _past(self, episode: _Live) -> np.ndarray | None:
        """The executed actions ``(P, A)`` that the window asks for, of this sub-task alone."""
        if not self.window.past_actions:
            return None
        executed = np.concatenate([np.zeros((0, self.action_dim), np.float32), *episode.actions[episode.earlier :]])
        return last_actions(executed, self.window.past_actions)


def stopped(which: str, policy: str, last: str) -> EvaluationStoppedError:
    """What ends an evaluation whose simulators fail.

    Args:
        which: Episodes that ended in errors.
        policy: What was evaluated.
        last: The last of these errors.
    """
    return EvaluationStoppedError(
        f"The evaluation of '{policy}' stopped: {which} ended in errors of the simulator, the last one so:\n{last}",
        "Mend what these lines name and run the same command again: finished episodes are kept, those that ended in "
        "errors are tried again.",
    )


def _as_agreed(episode: _Live, answer: Any) -> Any:
    """The answer to a chunk; an error where its sub-tasks are wrong, or the episode goes on after all its steps."""
    limit = episode.job.task.max_steps
    wrong = episode.chain.check(answer)
    if wrong is not None:
        return wrong
    if answer["success"] or answer["done"] or episode.steps + answer["steps"] < limit:
        return answer
    return SimulationError(
        f"The simulator does not end an episode of '{episode.job.task.name}' after its {limit} steps.",
        "Let its `step` say `done` at the limit that the benchmark declares.",
    )
