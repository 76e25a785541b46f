"""Robots that ask at the same time share a forward pass.

All bookkeeping is done in the event loop; only the passes themselves run in a thread of their own. Every robot has a
row of the batch, the lowest free one when it comes. A pass has as many rows as the highest taken one needs, whoever
asks: what a robot is answered therefore depends on who is connected, and not on who happens to be quick.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from videopolicy.deployment.rows import Asked, act_for
from videopolicy.evaluation.acting import Actor, Seen
from videopolicy.serving.metrics import Metrics

PATIENCE = 0.5
"""How long a pass waits for robots that are about to ask, in passes. A robot that executes its chunk for longer than
that is not waited for."""
_QUICK = 0.005
"""Seconds after which a robot is expected to ask again of which nothing is known yet."""
_REMEMBERED_PASSES = 8
"""Over so many of the last passes their duration is averaged."""


class Answer(NamedTuple):
    """What a robot is answered.

    Args:
        chunk: ``(H, A)`` in physical units.
        waited: Seconds until the pass began.
        passed: Seconds that it took.
    """

    chunk: np.ndarray
    waited: float
    passed: float


@dataclass(eq=False)
class Robot:
    """A robot that is connected.

    Args:
        row: Its row of the batch, by which the policy remembers it.
        noise: From which nobody else draws.
    """

    row: int
    noise: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    answered: float | None = None
    """When it was last answered; None while it waits for an answer, and before its first."""
    pauses: tuple[float, float] = (_QUICK, _QUICK)
    """Seconds from an answer to its next question, the last two times: the shorter one is expected again, since every
    robot waits for a new episode now and then."""

    def expected(self) -> float | None:
        """Until when its next question is to be expected."""
        return None if self.answered is None else self.answered + 2 * min(self.pauses) + 0.002


@dataclass(eq=False)
class _Question:
    robot: Robot
    seen: Seen
    answer: asyncio.Future[Answer]
    asked: float = field(default_factory=time.perf_counter)


class Batcher:
    """Answers robots, as many at once as ask.

    Args:
        actor: The policy.
        rows: How many robots may be connected.
        fixed: Whether every pass has all rows, as a policy needs that was compiled or captured for them.
        metrics: Gets the duration and the robots of every pass.
    """

    def __init__(self, actor: Actor, rows: int, fixed: bool, metrics: Metrics) -> None:
        self._actor, self.rows, self._fixed, self._metrics = actor, rows, fixed, metrics
        self._thread = ThreadPoolExecutor(1, "policy")
        self._robots: dict[int, Robot] = {}
        self._pending: list[_Question] = []
        self._begun: set[int] = set()
        self._news = asyncio.Event()
        self._passes: deque[float] = deque(maxlen=_REMEMBERED_PASSES)

    def join(self) -> Robot | None:
        """A robot takes the lowest free row; None where all are taken."""
        row = self._lowest()
        if row >= self.rows:
            return None
        robot = self._robots[row] = Robot(row)
        self._begun.add(row)
        return robot

    def leave(self, robot: Robot) -> None:
        """A robot has gone, whatever it was waiting for."""
        self._robots.pop(robot.row, None)
        self._pending = [one for one in self._pending if one.robot is not robot]

    def begin(self, robot: Robot, seed: int | None) -> None:
        """A new episode begins: what the policy remembers of this robot is forgotten.

        Args:
            robot: Which moves to a lower row where one has become free.
            seed: Of its noise from now on; None: the noise goes on.
        """
        if seed is not None:
            robot.noise = torch.Generator().manual_seed(seed)  # a pass that nobody waits for may draw from the other
        if (row := self._lowest()) < robot.row:
            self._robots[row] = self._robots.pop(robot.row)
            robot.row = row
        self._begun.add(robot.row)

    async def ask(self, robot: Robot, seen: Seen) -> Answer:
        """Plan for a robot, which asks nothing else meanwhile.

        Raises:
            Exception: What the policy has raised.
        """
        question = _Question(robot, seen, asyncio.get_running_loop().create_future())
        if robot.answered is not None:
            robot.pauses = (robot.pauses[1], question.asked - robot.answered)
        robot.answered = None
        self._pending.append(question)
        self._news.set()
        return await question.answer

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._gather()
            asking, self._pending = self._pending, []
            if asking:
                await self._answer(asking)

    def close(self) -> None:
        """Begin no further pass."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _gather(self) -> None:
        """Wait for those who are about to ask, for no longer than a part of a pass."""
        began = time.perf_counter()
        patience = PATIENCE * sum(self._passes) / len(self._passes) if self._passes else 0.0
        while True:
            now = time.perf_counter()
            times = [one.expected() for one in self._robots.values()]
            soon = [one for one in times if one is not None and now < one <= began + patience]
            if not soon:
                return
            try:
                async with asyncio.timeout(max(soon) - now):
                    await self._news.wait()
            except TimeoutError:
                return
            self._news.clear()

    async def _answer(self, asking: list[_Question]) -> None:
        begun, self._begun = self._begun, set()
        size = self.rows if self._fixed else 1 + max(self._robots)
        rows = {one: one.robot.row for one in asking}
        asked = {row: Asked(one.seen, one.robot.noise) for one, row in rows.items()}
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        chunks = await loop.run_in_executor(self._thread, self._pass, begun, asked, size)
        ended = time.perf_counter()
        self._passes.append(ended - started)
        self._metrics.passed(ended - started, len(asking))
        for one in asking:
            if one.answer.done():  # whoever asked has gone
                continue
            one.robot.answered = ended
            found = chunks[rows[one]]
            if isinstance(found, Exception):
                one.answer.set_exception(found)
            else:
                one.answer.set_result(Answer(found, started - one.asked, ended - started))

    def _pass(self, begun: set[int], asked: dict[int, Asked], size: int) -> dict[int, np.ndarray | Exception]:
        try:
            if begun:
                self._actor.reset(sorted(begun))
            return act_for(self._actor, asked, size)
        except Exception as error:
            return dict.fromkeys(asked, error)

    def _lowest(self) -> int:
        return next(row for row in range(len(self._robots) + 1) if row not in self._robots)
