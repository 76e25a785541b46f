"""Simulators in worker processes: started, called, watched over, and never left behind.

A pool knows nothing of episodes. It sends calls to numbered workers, returns answers as they come, and turns a
worker that dies, hangs, raises, or sends what was not agreed into a `SimulationError` answer; such a worker is started
again when it is called next.
"""

from __future__ import annotations

import selectors
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from videopolicy.contracts.benchmark import WorkerSpec
from videopolicy.errors import SimulationError
from videopolicy.simulators.answers import Introduced
from videopolicy.simulators.process import Answer, WorkerProcess
from videopolicy.simulators.sockets import SocketFolder
from videopolicy.spaces import Spaces
from videopolicy.storage.files import storage_errors
from videopolicy.storage.provenance import SimulatorFacts

_POLL = 0.2  # seconds between looks at processes that have not connected yet


class WorkerPool:
    """A fixed number of worker processes that run one simulator.

    Args:
        spec: What to run.
        python: The interpreter to run it with, from `videopolicy.simulators.environments.interpreter`.
        count: Number of workers.
        log_folder: Gets ``worker-<index>.log`` with everything that worker printed.
        spaces: What the simulator must offer; None: whatever it offers.
        longest: Steps of the longest task, which limit the size of demonstrations.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        python: Path,
        count: int,
        log_folder: Path,
        spaces: Spaces | None = None,
        longest: int | None = None,
    ) -> None:
        self.spec = spec
        with storage_errors(log_folder):
            log_folder.mkdir(parents=True, exist_ok=True)
        self._folder = SocketFolder()
        self._introduced = Introduced()
        self._workers = [
            WorkerProcess(
                index,
                spec,
                python,
                self._folder,
                log_folder.resolve() / f"worker-{index}.log",
                spaces,
                longest,
                self._introduced,
            )
            for index in range(count)
        ]

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def outstanding(self) -> int:
        """Number of calls that have not been answered."""
        return sum(worker.call is not None for worker in self._workers)

    @property
    def simulator(self) -> SimulatorFacts:
        """What the workers say of themselves, all the same; known once one has been started."""
        return self._introduced.facts or SimulatorFacts()

    def start(self) -> None:
        """Start all workers now, side by side, without waiting for them; otherwise the first call does."""
        for worker in self._workers:
            worker.start()

    def ensure_started(self) -> None:
        """Start all workers and wait for the first one, which is tried twice as any call is.

        Raises:
            SimulationError: It cannot be started.
        """
        self.start()
        try:
            self.call(0, "hello")
        except SimulationError:
            self.call(0, "hello")

    def send(self, index: int, method: str, **arguments: Any) -> None:
        """Call a method of one worker's simulator, starting the worker if need be, without waiting.

        Args:
            index: The worker; it must have no outstanding call.
            method: One of `vpolicy_worker.Simulator`, such as ``step``.
            arguments: Plain data and arrays.
        """
        self._workers[index].send(method, arguments)

    def transmitted(self, index: int) -> float | None:
        """When a worker that had started was given its last call, by `time.perf_counter`; None where none was."""
        return self._workers[index].transmitted

    def wait(self, seconds: float | None = None) -> list[tuple[int, Answer]]:
        """Block until at least one outstanding call is answered, and return all answers that are there.

        Args:
            seconds: How long to wait at most; 0 takes what has come, None waits for as long as it takes.

        Returns:
            Pairs of a worker's index and what its simulator returned, in order of index; a `SimulationError`
            instead where the worker died, hung, raised or sent what was not agreed. An empty list when no call is
            outstanding, and when the time is up.
        """
        end = None if seconds is None else time.monotonic() + seconds
        last = False
        while self.outstanding:
            answered = [worker for worker in self._workers if worker.answered and worker.call is not None]
            answers = [(worker.index, worker.take()) for worker in answered]
            if answers or last:
                return answers
            left = _POLL if end is None else min(_POLL, max(0.0, end - time.monotonic()))
            last = end is not None and time.monotonic() + left >= end
            with selectors.DefaultSelector() as selector:
                for worker in self._workers:
                    if worker.channel is not None:
                        selector.register(worker.channel, selectors.EVENT_READ, worker)
                for key, _ in selector.select(left):
                    key.data.on_readable()
            for worker in self._workers:
                worker.look_after()
        return []

    def call(self, index: int, method: str, **arguments: Any) -> Any:
        """Call one worker and wait for its answer; no other call may be outstanding.

        Raises:
            SimulationError: The worker died, hung, raised or sent what was not agreed.
        """
        self.send(index, method, **arguments)
        ((_, answer),) = self.wait()
        if isinstance(answer, SimulationError):
            raise answer
        return answer

    def close(self) -> None:
        """End all workers; those that do not end by themselves within two seconds are killed."""
        for worker in self._workers:
            worker.hang_up()
        deadline = time.monotonic() + 2.0
        for worker in self._workers:
            worker.end(max(0.0, deadline - time.monotonic()))
        self._folder.remove()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
