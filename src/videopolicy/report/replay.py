"""Replays recorded actions in the simulator, to see again what an episode looked like."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.errors import DataError, SimulationError
from videopolicy.outcomes.records import EpisodeRecord
from videopolicy.paths import ensure_regular
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.run_folder import RunFolder

_ACTIONS_PER_CALL = 25
"""A call must end well within a worker's timeout, also when every step of it is rendered."""


@dataclass
class Replay:
    """One episode to replay, and what was seen.

    Args:
        record: The recorded episode.
        actions: ``(n, A)`` as executed.
        times: Environment steps at which observations are wanted; 0 is the one after the reset.
        observations: By time, as the worker gives them; times after the end are absent.
        steps: Actions executed.
        success: How it ended.
        initial_state: Hash of the state in which it began.
        error: Why it could not be replayed.
    """

    record: EpisodeRecord
    actions: np.ndarray
    times: frozenset[int]
    observations: dict[int, dict[str, Any]] = field(default_factory=dict)
    steps: int = 0
    success: bool = False
    initial_state: str = ""
    error: str = ""

    @property
    def differences(self) -> str:
        """How the replay differs from the record; empty when it does not."""
        if self.error:
            return self.error
        found = []
        if self.initial_state != self.record.initial_state:
            found.append("began in another state")
        if self.steps != self.record.steps:
            found.append(f"ended after {self.steps} instead of {self.record.steps} steps")
        if self.success != self.record.success:
            found.append("succeeded" if self.success else "failed")
        return " and ".join(found)

    def frame(self, time: int, camera: str) -> np.ndarray:
        """``(height, width, 3)`` uint8."""
        return self.observations[time]["images"][camera]


def load_trajectory(
    folder: RunFolder, record: EpisodeRecord, say: Callable[[str], None] | None = None
) -> np.ndarray | None:
    """Executed actions ``(n, A)``, or None where they were not kept or the file is damaged.

    Args:
        folder: Of the run.
        record: Of the episode.
        say: Reports a damaged file.
    """
    path = folder.trajectory(record.policy, record.task, record.episode)
    try:
        ensure_regular(path, DataError, "")
        actions = np.load(path, allow_pickle=False)
        if not isinstance(actions, np.ndarray) or actions.ndim != 2:
            raise ValueError("it holds no rows of actions")
    except FileNotFoundError:
        return None
    except (DataError, OSError, ValueError, EOFError) as error:
        if say is not None:
            say(f"{path} is damaged: {error}. The episode cannot be shown.")
        return None
    return actions


def replay_key(record: EpisodeRecord, actions: np.ndarray, *parts: Any) -> str:
    """Identifies what a replay shows: the episode, its actions, and whatever else the picture depends on."""
    text = repr((record.task, record.episode, record.initial_state, record.protocol, actions.shape, parts))
    return hashlib.sha256(text.encode() + actions.tobytes()).hexdigest()[:16]


def replay(
    benchmark: BenchmarkComponent,
    jobs: Sequence[Replay],
    log_folder: Path,
    workers: int,
    finished: Callable[[Replay], None],
) -> None:
    """Replay episodes side by side; one that breaks its simulator gets an ``error`` and the others go on.

    Args:
        benchmark: Whose cameras are used.
        jobs: What to replay; filled in.
        log_folder: For the workers' logs.
        workers: Simulator processes.
        finished: Called with every job when it is done; its observations are dropped afterwards.
    """
    if not jobs:
        return
    spec = benchmark.launch()
    count = min(workers, len(jobs))
    with WorkerPool(spec, interpreter(spec), count, log_folder, benchmark.spaces()) as pool:
        waiting = list(jobs)
        active: dict[int, Replay] = {}

        def begin(index: int) -> None:
            if waiting:
                job = active[index] = waiting.pop(0)
                pool.send(index, "reset", task=job.record.task, episode=job.record.episode)

        for index in range(len(pool)):
            begin(index)
        while pool.outstanding:
            for index, answer in pool.wait():
                job = active[index]
                if _take(job, answer):
                    chunk = job.actions[job.steps : job.steps + _ACTIONS_PER_CALL]
                    wanted = [k for k in range(1, len(chunk) + 1) if job.steps + k in job.times]
                    pool.send(index, "step", actions=chunk, frames=wanted)
                else:
                    finished(job)
                    job.observations = {}
                    begin(index)


def _take(job: Replay, answer: Any) -> bool:
    """Note an answer; returns whether the episode goes on."""
    if isinstance(answer, SimulationError):
        job.error = answer.message.splitlines()[0]
        return False
    if "initial_state" in answer:
        job.initial_state = answer["initial_state"]
        job.observations[0] = answer["observation"]
        return len(job.actions) > 0
    for k, observation in answer["observations"].items():
        job.observations[job.steps + int(k)] = observation
    job.steps += answer["steps"]
    job.success = bool(answer["success"])
    over = job.success or answer["done"] or answer["steps"] == 0
    return not over and job.steps < len(job.actions)
