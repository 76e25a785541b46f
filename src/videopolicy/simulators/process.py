"""One simulator in a process of its own: started, called, watched over, and never left behind.

A process that dies, hangs, raises, or sends what was not agreed ends, and its call is answered by a `SimulationError`;
the next call starts another one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vpolicy_worker
from vpolicy_worker import PROTOCOL, ConnectionClosedError, Incoming, MalformedMessageError

from videopolicy.contracts.benchmark import WorkerSpec
from videopolicy.errors import SimulationError
from videopolicy.simulators.answers import UNGREETED, Agreement, AnswerError, Introduced, greeting
from videopolicy.simulators.environments import advice, override_variable, worker_command, worker_variables
from videopolicy.simulators.output import end_of, ending, quoted, shown
from videopolicy.simulators.sockets import SocketFolder
from videopolicy.spaces import Spaces
from videopolicy.storage.files import storage_errors
from videopolicy.storage.logs import cap

_GRACE = 3.0  # seconds past the timeout in which a hung worker prints its stack and ends by itself

Answer = Any | SimulationError


@dataclass(eq=False)
class WorkerProcess:
    """One slot of the pool and the process that fills it at the moment.

    The process is absent, starting (``listener`` is set), or ready (``connection`` is set).
    """

    index: int
    spec: WorkerSpec
    python: Path
    folder: SocketFolder
    log: Path
    spaces: Spaces | None
    longest: int | None
    introduced: Introduced
    process: subprocess.Popen[bytes] | None = None
    listener: socket.socket | None = None
    connection: socket.socket | None = None
    incoming: Incoming = field(default_factory=lambda: Incoming(UNGREETED))
    agreement: Agreement | None = None
    deadline: float = 0.0
    transmitted: float | None = None
    number: int = 0
    call: tuple[str, dict[str, Any]] | None = None
    answered: bool = False
    answer: Answer = None

    @property
    def channel(self) -> socket.socket | None:
        return self.connection or self.listener

    def start(self) -> None:
        if self.process is not None or self.answered:
            return
        try:
            self._start()
        except SimulationError as error:
            self._give_up(error)
        except OSError as error:
            self._close_sockets()
            message = f"The interpreter {self.python} of environment '{self.spec.environment}' cannot be started: "
            hint = f"Set {override_variable(self.spec)} to a working interpreter, or unset it."
            self._give_up(SimulationError(f"{message}{error}.", hint))

    def _start(self) -> None:
        folder = self.folder.ready()
        self.listener, path = self.folder.listen(f"{self.index}.sock")
        with storage_errors(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.touch()
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the core only, which then ends the whole group.
            self.process = subprocess.Popen(
                worker_command(self.spec, self.python, path),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=worker_variables(self.spec, folder),
                start_new_session=True,
            )
        self.incoming, self.number = Incoming(UNGREETED), 0
        self.deadline = time.monotonic() + self.spec.start_timeout

    def send(self, method: str, arguments: dict[str, Any]) -> None:
        if self.call is not None:
            raise RuntimeError(f"worker {self.index} has not answered yet")
        self._notice_unasked()
        self.call, self.transmitted = (method, arguments), None
        self.start()
        self.number += 1
        if self.agreement is not None and not self.answered:
            self._transmit(self.agreement)

    def take(self) -> Answer:
        """The answer to the outstanding call, which thereby is no longer outstanding."""
        answer, self.answer, self.answered, self.call = self.answer, None, False, None
        return answer

    def on_readable(self) -> None:
        """Something has arrived: a connection, or a part of the greeting, of an answer, or of what nobody asked for."""
        if self.connection is None:
            self._accept()
        elif self.agreement is not None and self.call is None:
            self._notice_unasked()
        else:
            self._read(self.connection)

    def look_after(self) -> None:
        """Fail a process that ended before it connected, and one whose time is up; keep its log from growing."""
        cap(self.log)
        if self.process is None or self.answered:
            return
        ended = self.connection is None and self.process.poll() is not None
        working = self.call is not None or self.agreement is None
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
        cap(self.log)
        if patience:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        self.agreement = None

    def _accept(self) -> None:
        assert self.listener is not None
        try:
            self.connection, _ = self.listener.accept()
        except OSError as error:
            self._fail(f"cannot be reached: {error}", "")

    def _read(self, connection: socket.socket) -> None:
        """Take what has arrived of a message, and the message once it is whole."""
        connection.settimeout(0)
        try:
            while not self.incoming.read(connection):
                pass
            message = self.incoming.message()
        except BlockingIOError:
            return
        except ConnectionClosedError:
            self._fail(*self._how_it_ended())
            return
        except MalformedMessageError as error:
            self._fail(f"sent what is no message {self._doing()}: {error}", "")
            return
        try:
            self._understand(message)
        except AnswerError as error:
            what = f"answer to '{self._method()}'" if self.agreement else "greeting"
            self._fail(f"sent a wrong {what}: {error}", "")

    def _understand(self, message: Any) -> None:
        """Judge a greeting or an answer.

        Raises:
            AnswerError: It is not what was agreed.
        """
        if not isinstance(message, dict):
            raise AnswerError(f"it is a {type(message).__name__}, not a mapping")
        number = message.get("id", self.number)  # it may be absent: it came to the protocol later
        if self.agreement is not None and (type(number) is not int or number != self.number):
            raise AnswerError("it is the answer to another call")
        if "error" in message:
            where = f"'{self._method()}'" if self.agreement else "its start"
            self._fail(f"raised in {where}: {shown(message['error'])}", shown(message.get("traceback", "")))
        elif self.agreement is None:
            self._greet(message)
        elif "result" not in message:
            raise AnswerError("'result' is missing")
        else:
            assert self.call is not None
            self.agreement.check(*self.call, message["result"])
            self.answer, self.answered = message["result"], True

    def _greet(self, message: dict[str, Any]) -> None:
        protocol = message.get("protocol")
        if type(protocol) is not int or protocol != PROTOCOL:
            self._fail(f"speaks protocol {shown(protocol)}, the core speaks {PROTOCOL}", "")
            return
        said = greeting(message.get("hello"))
        theirs = said.spaces
        mismatches = self.spaces.mismatches(theirs, "the benchmark", "the simulator") if self.spaces else []
        if mismatches:
            self._fail("offers other spaces than the benchmark declares: " + "; ".join(mismatches), "")
            return
        self.introduced.ensure_same(said.facts)
        self.agreement = Agreement(self.spaces or theirs, self.longest)
        if self.call is not None:
            self._transmit(self.agreement)

    def _notice_unasked(self) -> None:
        """Fail a worker that has no call, and has sent something or has gone."""
        if self.connection is None or self.agreement is None:
            return
        self.connection.settimeout(0)
        try:
            came = self.connection.recv(1)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        self._fail(*(("sent a message that no call asked for", "") if came else self._how_it_ended()))

    def _transmit(self, agreement: Agreement) -> None:
        assert self.connection is not None and self.call is not None
        method, arguments = self.call
        self.incoming = Incoming(agreement.limit(method, arguments))
        self.deadline = time.monotonic() + self.spec.timeout
        self.transmitted = time.perf_counter()
        self.connection.settimeout(self.spec.timeout)
        try:
            vpolicy_worker.send(self.connection, {"id": self.number, "method": method, "arguments": arguments})
        except (ConnectionClosedError, OSError):
            self._fail(*self._how_it_ended())

    def _method(self) -> str:
        return self.call[0] if self.call else "hello"

    def _doing(self) -> str:
        if self.agreement is None:
            return "while it started"
        return f"during '{self._method()}'" if self.call else "while it waited for a call"

    def _how_it_ended(self) -> tuple[str, str]:
        """What to say about a process that has gone or whose time is up, and the last lines of its log."""
        assert self.process is not None
        if (self.call or self.agreement is None) and time.monotonic() >= self.deadline:
            limit = self.spec.timeout if self.agreement else self.spec.start_timeout
            how = f"did not answer within {limit:g} s {self._doing()}"
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
            how = f"died {self._doing()} ({ending(self.process.poll())})"
        return how, end_of(self.log)

    def _fail(self, how: str, details: str) -> None:
        assert self.process is not None
        message = f"Worker {self.index} of '{self.spec.environment}' (process {self.process.pid}) {how}."
        message += quoted(details)
        hint = f"Its whole output is in {self.log}."
        if self.agreement is None:
            hint += advice(self.spec, message)
        self.end()
        self._give_up(SimulationError(message, hint))

    def _give_up(self, error: SimulationError) -> None:
        """Answer the call with an error; without one, the next: what the simulator had in memory is lost."""
        self.answer, self.answered = error, True

    def _close_sockets(self) -> None:
        for channel in (self.connection, self.listener):
            if channel is not None:
                channel.close()
        self.connection = self.listener = None
