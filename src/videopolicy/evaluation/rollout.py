"""Runs evaluation episodes: simulators in workers, one forward pass for all live episodes.

An episode's outcome depends on nothing but its task, its index and the seed. Its noise comes from a generator
of its own, and its row in the batch, whose size never changes, follows from its number: neither the number of
workers nor the episodes that happen to share a batch can reach it.
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
from videopolicy.recipes.recipe import Evaluation
from videopolicy.results.records import EpisodeLog, EpisodeRecord
from videopolicy.seeds import derived_seed
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.files import written_whole
from videopolicy.storage.run_folder import RunFolder
from videopolicy.types import RowGenerator, Window

TRIES = 2
"""How often an episode is begun before the error of its simulator is recorded."""
ERRORS_IN_A_ROW = 3
"""Episodes that end in errors one after the other, with none finished between them, after which evaluation stops."""


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
    initial_state: str
    started: float
    steps: int = 0
    score: float = -math.inf
    actions: list[np.ndarray] = field(default_factory=list)


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
        live: dict[int, _Live] = {}
        starting: dict[int, Job] = {}
        successes = 0
        errors: list[str] = []  # since the last episode that was finished
        with self.reporter.activity(f"evaluate {self.policy}", len(jobs), len(jobs) - len(waiting)) as progress:
            while waiting or live or starting:
                self._start(waiting, live, starting)
                for index, answer in self._answers():
                    record = self._receive(index, answer, live, starting, waiting)
                    if record is not None:
                        self.log.append(record)
                        successes += record.success
                        progress.advance(1, f"{successes} solved")
                        errors = [] if record.error is None else [*errors, record.error]
                if len(errors) >= ERRORS_IN_A_ROW:
                    raise stopped(f"{len(errors)} episodes in a row", self.policy, errors[-1])
                self._decide(live)

    def _start(self, waiting: deque[Job], live: dict[int, _Live], starting: dict[int, Job]) -> None:
        """Give every idle worker the next episode whose row in the batch is free."""
        for index in range(len(self.pool)):
            if index in live or index in starting:
                continue
            taken = {self._row(job) for job in starting.values()} | {self._row(one.job) for one in live.values()}
            job = next((job for job in waiting if self._row(job) not in taken), None)
            if job is None:
                return
            waiting.remove(job)
            job.attempts += 1
            starting[index] = job
            self.pool.send(index, "reset", task=job.task.name, episode=job.episode)

    def _row(self, job: Job) -> int:
        return job.number % self.settings.batch_size

    def _answers(self) -> list[tuple[int, Any]]:
        """All outstanding answers: the batch is fullest when everybody has arrived."""
        answers = []
        while self.pool.outstanding:
            answers += self.pool.wait()
        return answers

    def _receive(
        self,
        index: int,
        answer: Any,
        live: dict[int, _Live],
        starting: dict[int, Job],
        waiting: deque[Job],
    ) -> EpisodeRecord | None:
        job = starting.pop(index) if index in starting else live[index].job
        if index in live and not isinstance(answer, SimulationError):
            answer = _ended_in_time(live[index], answer)
        if isinstance(answer, SimulationError):
            live.pop(index, None)
            if job.attempts < TRIES:
                waiting.appendleft(job)
                self.reporter.line(f"{answer.message.splitlines()[0]} {job.task.name} {job.episode} is tried again.")
                return None
            return self._record(job, error=answer.message)
        if index not in live:
            self.actor.reset([self._row(job)])
            live[index] = _Live(
                job,
                torch.Generator().manual_seed(derived_seed(self.seed, self.policy, job.task.name, job.episode)),
                History(self.window.observed, answer["observation"]),
                answer["initial_state"],
                time.monotonic(),
            )
            return None
        episode = live[index]
        episode.steps += answer["steps"]
        episode.score = max(episode.score, float(answer["score"]))
        episode.actions[-1] = episode.actions[-1][: answer["steps"]]
        episode.history.add(answer["steps"], answer["observations"])
        if not (answer["success"] or answer["done"]):
            return None
        del live[index]
        self._keep(episode)
        return self._record(
            job,
            success=bool(answer["success"]),
            score=episode.score,
            steps=episode.steps,
            seconds=round(time.monotonic() - episode.started, 3),
            initial_state=episode.initial_state,
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

    def _decide(self, live: dict[int, _Live]) -> None:
        """One forward pass for all live episodes, then the next chunk for each of them."""
        if not live:
            return
        rows: list[Seen | None] = [None] * self.settings.batch_size
        generators = [torch.Generator() for _ in rows]
        for episode in live.values():
            row = self._row(episode.job)
            rows[row] = Seen(episode.history.observed(), episode.job.task.instruction, self._past(episode))
            generators[row] = episode.generator
        started = time.perf_counter()
        actions = self.actor.act(stack_observations(rows), RowGenerator(generators))
        self.chunk_seconds.append(time.perf_counter() - started)
        for index, episode in live.items():
            count = min(self.settings.execute, episode.job.task.max_steps - episode.steps)
            chunk = actions[self._row(episode.job), :count].astype(np.float32)
            episode.actions.append(chunk)
            self.pool.send(index, "step", actions=chunk, frames=episode.history.wanted(self.settings.execute))

    def _past(self, episode: _Live) -> np.ndarray | None:
        """The executed actions ``(P, A)`` that the window asks for."""
        if not self.window.past_actions:
            return None
        executed = np.concatenate([np.zeros((0, self.action_dim), np.float32), *episode.actions])
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


def _ended_in_time(episode: _Live, answer: Any) -> Any:
    """The answer to a chunk; an error where the episode has had all its steps and goes on."""
    limit = episode.job.task.max_steps
    if answer["success"] or answer["done"] or episode.steps + answer["steps"] < limit:
        return answer
    return SimulationError(
        f"The simulator does not end an episode of '{episode.job.task.name}' after its {limit} steps.",
        "Let its `step` say `done` at the limit that the benchmark declares.",
    )
