"""Simulators in worker processes: started, called, watched over, and never left behind.

A pool knows nothing of episodes. It sends calls to numbered workers, returns answers as they come, and turns a
worker that dies, hangs or raises into a `SimulationError` answer; such a worker is started anew when it is
called next.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import vpolicy_worker
from vpolicy_worker import PROTOCOL, ConnectionClosedError

from videopolicy.contracts.benchmark import WorkerSpec
from videopolicy.errors import SimulationError
from videopolicy.simulators.environments import override_variable, worker_variables
from videopolicy.spaces import Spaces
from videopolicy.storage.files import storage_errors

_GRACE = 3.0  # seconds past the timeout in which a hung worker prints its stack and ends by itself
_POLL = 0.2  # seconds between looks at processes that have not connected yet
_LOG_LINES = 12

Answer = Any | SimulationError


class WorkerPool:
    """A fixed number of worker processes that run one simulator.

    Args:
        spec: What to run.
        python: The interpreter to run it with, from `videopolicy.simulators.environments.interpreter`.
        count: Number of workers.
        log_folder: Gets ``worker-<index>.log`` with everything that worker printed.
        spaces: What the simulator must offer; None: whatever it offers.
    """

    def __init__(
        self, spec: WorkerSpec, python: Path, count: int, log_folder: Path, spaces: Spaces | None = None
    ) -> None:
        self.spec = spec
        with storage_errors(log_folder):
            log_folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="vpolicy-"))  # sockets must have short paths
        self._workers = [
            _Worker(index, spec, python, self._folder, log_folder.resolve() / f"worker-{index}.log", spaces)
            for index in range(count)
        ]

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def outstanding(self) -> int:
        """Number of calls that have not been answered."""
        return sum(worker.call is not None for worker in self._workers)

    def start(self) -> None:
        """Start all workers now, side by side, without waiting for them; otherwise the first call does."""
        for worker in self._workers:
            worker.start()

    def send(self, index: int, method: str, **arguments: Any) -> None:
        """Call a method of one worker's simulator, starting the worker if need be, without waiting.

        Args:
            index: The worker; it must have no outstanding call.
            method: ``hello``, ``reset``, ``step`` or ``demonstrate`` of `vpolicy_worker.Simulator`.
            arguments: Plain data and arrays.
        """
        self._workers[index].send(method, arguments)

    def wait(self) -> list[tuple[int, Answer]]:
        """Block until at least one outstanding call is answered, and return all answers that are there.

        Returns:
            Pairs of a worker's index and what its simulator returned, in order of index; a `SimulationError`
            instead where the worker died, hung or raised. An empty list when no call is outstanding.
        """
        while self.outstanding:
            with selectors.DefaultSelector() as selector:
                for worker in self._workers:
                    if worker.channel is not None:
                        selector.register(worker.channel, selectors.EVENT_READ, worker)
                for key, _ in selector.select(_POLL):
                    key.data.on_readable()
            for worker in self._workers:
                worker.look_after()
            answers = [(worker.index, worker.take()) for worker in self._workers if worker.answered]
            if answers:
                return answers
        return []

    def call(self, index: int, method: str, **arguments: Any) -> Any:
        """Call one worker and wait for its answer; no other call may be outstanding.

        Raises:
            SimulationError: The worker died, hung or raised.
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
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """One slot of the pool and the process that fills it at the moment.

    The process is absent, starting (``listener`` is set), or ready (``connection`` is set).
    """

    def __init__(
        self, index: int, spec: WorkerSpec, python: Path, folder: Path, log: Path, spaces: Spaces | None
    ) -> None:
        self.index = index
        self.spec = spec
        self.python = python
        self.folder = folder
        self.log = log
        self.spaces = spaces
        self.process: subprocess.Popen[bytes] | None = None
        self.listener: socket.socket | None = None
        self.connection: socket.socket | None = None
        self.greeted = False
        self.deadline = 0.0
        self.call: tuple[str, dict[str, Any]] | None = None
        self.answered = False
        self.answer: Answer = None

    @property
    def channel(self) -> socket.socket | None:
        return self.connection or self.listener

    def start(self) -> None:
        if self.process is not None:
            return
        path = self.folder / f"{self.index}.sock"
        path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(1)
        command = [str(self.python), "-m", "vpolicy_worker", "--connect", str(path)]
        command += ["--module", str(self.spec.module), "--simulator", self.spec.simulator]
        command += ["--config", json.dumps(self.spec.config), "--timeout", str(self.spec.timeout)]
        with self.log.open("ab") as log:
            try:
                # A session of its own: Ctrl-C reaches the core only, which then ends the whole group.
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=worker_variables(self.spec, self.folder),
                    start_new_session=True,
                )
            except OSError as error:
                self._close_sockets()
                raise SimulationError(
                    f"The interpreter {self.python} of environment '{self.spec.environment}' cannot be started: "
                    f"{error}.",
                    f"Set {override_variable(self.spec)} to a working interpreter, or unset it.",
                ) from error
        self.deadline = time.monotonic() + self.spec.start_timeout

    def send(self, method: str, arguments: dict[str, Any]) -> None:
        if self.call is not None:
            raise RuntimeError(f"worker {self.index} has not answered yet")
        self.call = (method, arguments)
        self.start()
        if self.greeted:
            self._transmit()

    def take(self) -> Answer:
        """The answer to the outstanding call, which thereby is no longer outstanding."""
        answer, self.answer, self.answered, self.call = self.answer, None, False, None
        return answer

    def on_readable(self) -> None:
        """Something has arrived: a connection, the greeting, or an answer."""
        if self.connection is None:
            assert self.listener is not None
            self.connection, _ = self.listener.accept()
            return
        self.connection.settimeout(max(0.1, self.deadline + _GRACE - time.monotonic()))
        try:
            message = vpolicy_worker.receive(self.connection)
        except (ConnectionClosedError, TimeoutError):
            self._fail(*self._how_it_ended())
            return
        if "error" in message:
            where = f"'{self._method()}'" if self.greeted else "its start"
            self._fail(f"raised in {where}: {message['error']}", message["traceback"])
        elif not self.greeted:
            self._greet(message)
        else:
            self.answer, self.answered = message["result"], True

    def look_after(self) -> None:
        """Fail a process that ended before it connected, and one whose time is up."""
        if self.process is None or self.answered:
            return
        ended = self.connection is None and self.process.poll() is not None
        working = self.call is not None or not self.greeted
        if ended or (working and time.monotonic() > self.deadline + _GRACE):
            self._fail(*self._how_it_ended())

    def hang_up(self) -> None:
        """Close the connection, at which the process ends by itself if it can."""
        self._close_sockets()

    def end(self, patience: float = 0.0) -> None:
        """Make sure that the process, and whatever it started, is gone."""
        self._close_sockets()
        if self.process is None:
            return
        if patience:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        self.greeted = False

    def _greet(self, greeting: dict[str, Any]) -> None:
        if greeting.get("protocol") != PROTOCOL:
            self._fail(f"speaks protocol {greeting.get('protocol')}, the core speaks {PROTOCOL}", "")
            return
        if self.spaces is not None:
            theirs = Spaces.model_validate(greeting["hello"]["spaces"])
            mismatches = self.spaces.mismatches(theirs, "the benchmark", "the simulator")
            if mismatches:
                self._fail("offers other spaces than the benchmark declares: " + "; ".join(mismatches), "")
                return
        self.greeted = True
        if self.call is not None:
            self._transmit()

    def _transmit(self) -> None:
        assert self.connection is not None and self.call is not None
        method, arguments = self.call
        self.deadline = time.monotonic() + self.spec.timeout
        self.connection.settimeout(self.spec.timeout)
        try:
            vpolicy_worker.send(self.connection, {"method": method, "arguments": arguments})
        except (ConnectionClosedError, TimeoutError):
            self._fail(*self._how_it_ended())

    def _method(self) -> str:
        return self.call[0] if self.call else "hello"

    def _how_it_ended(self) -> tuple[str, str]:
        """What to say about a process that has gone or whose time is up, and the last lines of its log."""
        assert self.process is not None
        doing = f"during '{self._method()}'" if self.greeted else "while it started"
        if time.monotonic() >= self.deadline:
            limit = self.spec.timeout if self.greeted else self.spec.start_timeout
            how = f"did not answer within {limit:g} s {doing}"
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
            code = self.process.poll()
            status = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
            how = f"died {doing} ({status})"
        lines = (
            self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
            if self.log.exists()
            else []
        )
        return how, "\n".join(lines)

    def _fail(self, how: str, details: str) -> None:
        assert self.process is not None
        message = f"Worker {self.index} of '{self.spec.environment}' (process {self.process.pid}) {how}."
        if details.strip():
            message += "\n" + "\n".join(f"  | {line}" for line in details.strip().splitlines())
        self.end()
        if self.call is not None:
            self.answer, self.answered = SimulationError(message, f"Its whole output is in {self.log}."), True

    def _close_sockets(self) -> None:
        for channel in (self.connection, self.listener):
            if channel is not None:
                channel.close()
        self.connection = self.listener = None
