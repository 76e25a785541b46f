"""The conversation with one robot: its questions one after the other, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from videopolicy.deployment.policy import DeployedPolicy
from videopolicy.errors import DataError, VpolicyError
from videopolicy.evaluation.acting import Seen
from videopolicy.parts.messages import pack
from videopolicy.serving.batching import Answer, Batcher, Robot
from videopolicy.serving.metrics import Metrics
from videopolicy.serving.questions import Infer, Reset, metadata, read


@dataclass(frozen=True)
class Service:
    """What all conversations share.

    Args:
        policy: What is served.
        batcher: Answers.
        metrics: Counts.
        say: Gets a line for what fails here.
    """

    policy: DeployedPolicy
    batcher: Batcher
    metrics: Metrics
    say: Callable[[str], None]


async def converse(connection: ServerConnection, service: Service) -> None:
    """Answer a robot until it goes. What it sends wrongly is answered with a text, and the conversation goes on; where
    the policy fails, it ends with 1011 behind the text, as openpi's does."""
    robot = service.batcher.join()
    if robot is None:
        taken = f"All {service.batcher.rows} places are taken; start the server with more --clients."
        await connection.close(CloseCode.TRY_AGAIN_LATER, taken)
        return
    service.metrics.connected(1)
    conversation = _Conversation(service, robot)
    try:
        await connection.send(pack(metadata(service.policy)))
        async for message in connection:
            await connection.send(await conversation.answer(message))
    except _PolicyFailedError as failure:
        with suppress(ConnectionClosed):
            await connection.send(str(failure))
            await connection.close(CloseCode.INTERNAL_ERROR, "The policy failed; the last message says how.")
    except ConnectionClosed:
        pass  # it has gone in the middle of something
    finally:
        service.batcher.leave(robot)
        service.metrics.connected(-1)
        await conversation.end()


class _PolicyFailedError(Exception):
    """The policy has raised something; the message is for the client."""


@dataclass(eq=False)
class _Plan:
    """A chunk that is being planned while another one is executed."""

    seen: Seen
    since: float
    answer: asyncio.Task[Answer]


class _Conversation:
    def __init__(self, service: Service, robot: Robot) -> None:
        self._service, self._robot = service, robot
        self._execute = 0
        self._plan: _Plan | None = None
        self._total: float | None = None

    async def answer(self, message: bytes | str) -> bytes | str:
        """What the robot is answered: packed data, or a text that says what is wrong.

        Raises:
            _PolicyFailedError: The policy has.
        """
        began = time.perf_counter()
        metrics = self._service.metrics
        try:
            asked = read(message, self._service.policy)
            if isinstance(asked, Reset):
                await self.end()
                self._service.batcher.begin(self._robot, asked.seed)
                return pack({"status": "reset successful"})
            if not isinstance(asked, Infer):
                await self.end()
                self._execute = asked.execute
                return pack({"status": "prefetch", "execute": asked.execute})
            answer, delay = await (self._ahead(asked.seen) if self._execute else self._now(asked.seen))
        except DataError as error:
            metrics.failed("message")
            return str(error)
        except Exception as error:  # of whatever kind: other robots are served on
            metrics.failed("policy")
            told = error.message if isinstance(error, VpolicyError) else f"{type(error).__name__}: {error}"
            self._service.say(f"The policy failed: {told}")
            raise _PolicyFailedError(f"The policy failed: {told}") from error
        reply = self._reply(answer, delay)
        metrics.answered(time.perf_counter() - began)
        self._total = time.perf_counter() - began
        return reply

    async def end(self) -> None:
        """Plan nothing ahead any more."""
        if self._plan is not None:
            self._plan.answer.cancel()
            with suppress(asyncio.CancelledError, Exception):  # nobody wants to know any more
                await self._plan.answer
            self._plan = None

    async def _now(self, seen: Seen) -> tuple[Answer, dict[str, Any]]:
        return await self._service.batcher.ask(self._robot, seen), {}

    async def _ahead(self, seen: Seen) -> tuple[Answer, dict[str, Any]]:
        """What follows the executed actions in the chunk that was planned for the observation before.

        The chunk for this one is planned while the robot executes that. The first chunk of an episode or of a sentence
        is waited for.
        """
        plan, since = self._plan, time.perf_counter()
        if plan is not None and plan.seen.instruction != seen.instruction:
            await self.end()
            plan = None
        if plan is None:
            answer = await self._service.batcher.ask(self._robot, seen)
            self._plan = _Plan(seen, since, asyncio.create_task(_known(answer)))
            kept = answer.chunk[: len(answer.chunk) - self._execute]
            return answer._replace(chunk=kept), {"steps": 0, "ms": 1000 * (time.perf_counter() - since)}
        self._plan = None
        answer = await plan.answer
        self._plan = _Plan(seen, since, asyncio.create_task(self._service.batcher.ask(self._robot, seen)))
        late = {"steps": self._execute, "ms": 1000 * (time.perf_counter() - plan.since)}
        return answer._replace(chunk=answer.chunk[self._execute :]), late

    def _reply(self, answer: Answer, delay: dict[str, Any]) -> bytes:
        timing = {"infer_ms": 1000 * answer.passed, "wait_ms": 1000 * answer.waited}
        if self._total is not None:
            timing["prev_total_ms"] = 1000 * self._total
        said: dict[str, Any] = {"actions": np.ascontiguousarray(answer.chunk), "server_timing": timing}
        return pack({**said, "delay": delay} if delay else said)


async def _known(answer: Answer) -> Answer:
    return answer
