"""A scripted expert of PushT: it tries straight pushes in a copy of the plane, and does the best one.

Nothing has friction, and the T loses all speed at every instant, so that it moves only while it is pushed. A push is
described by where on the outline it begins, how far it leans to a side, and how far it goes; its outcome is found by
trying. Its price is the distance of the T's corners from the target afterwards, and the steps that it takes; one more
push is looked ahead to. Between pushes the finger goes round the T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import geometry
import numpy as np
from geometry import RADIUS, WORKSPACE, Surroundings
from gym_pusht.envs.pusht import PushTEnv

GAP = 5.0
"""Between finger and outline where a push begins."""
CLEARANCE = 6.0
"""Between finger and outline on the way."""
LEAD = 50.0
"""How far the target leads the finger on its way; the PD controller goes at 5 times that a second."""
PACE = 14.0
"""How far the target of a push moves in a step."""
SETTLE = 3
"""Steps in which the finger comes up to the end of a push."""
STEP_PRICE = 0.3
"""What a step costs, in units of the distance of the corners."""
TRIED, TRIED_NEXT, KEPT = 90, 30, 6
"""First pushes tried, second pushes tried after each of those kept, and how many are kept."""
NEAR = 8.0
"""Distance of the corners below which it is looked at whether the target is covered."""
SOLVED = -30.0
"""What stands for the distance once it is."""


@dataclass(frozen=True)
class Push:
    """A straight push.

    Args:
        place: Where on the outline it begins, in multiples of its length.
        lean: Angle of its direction to the edge's inner normal, in radians.
        length: How far the finger goes from where it touches.
    """

    place: float
    lean: float
    length: float

    def line(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the finger begins and ends, both ``(2,)``, for a T with pose ``(x, y, angle)``."""
        point, normal = geometry.on_outline(self.place)
        direction = geometry.turned(normal, self.lean)
        start = point - RADIUS * normal - GAP * direction
        ends = geometry.turned(np.stack([start, start + direction * (GAP + self.length)]), pose[2]) + pose[:2]
        return ends[0], ends[1]


@dataclass(frozen=True)
class Outcome:
    """What a push comes to: the T's pose and the finger after it, its price, and what the price was without steps."""

    push: Push
    pose: np.ndarray
    finger: np.ndarray
    left: float
    price: float


class Expert:
    """Chooses the actions of one episode.

    Args:
        goal: Pose of the target ``(x, y, angle)``.
        seed: Decides which pushes are tried.
    """

    def __init__(self, goal: np.ndarray, seed: int) -> None:
        self._goal = geometry.corners(goal)
        self._draw = np.random.default_rng(seed)
        self._copy = PushTEnv(obs_type="state")
        self._copy.reset(seed=0)
        self._copy.goal_pose = np.asarray(goal, float)
        self._finger, self._velocity, self._pose = np.zeros(2), np.zeros(2), np.zeros(3)
        self._actions = self._act()

    def action(self, finger: np.ndarray, velocity: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Where the finger shall go next, ``(2,)``.

        Args:
            finger: Where it is, ``(2,)``.
            velocity: Of the finger, ``(2,)``.
            pose: Of the T, ``(x, y, angle)``.
        """
        self._finger, self._velocity, self._pose = finger, velocity, pose
        return next(self._actions)

    def _act(self) -> Iterator[np.ndarray]:
        while True:
            chosen = self._choose()
            if chosen is None:  # boxed in: step back from the T
                away = self._finger - self._pose[:2]
                yield np.clip(self._finger + 40 * away / (np.hypot(*away) + 1e-6), *WORKSPACE)
                continue
            before = self._pose
            yield from self._go(chosen.push.line(before)[0])
            if np.abs(self._pose - before).max() > 0.5:
                continue  # touched on the way: think again
            push = self._refined(chosen)
            start, end = push.line(self._pose)
            yield from _targets(start, end)

    def _go(self, end: np.ndarray) -> Iterator[np.ndarray]:
        """Actions that take the finger round the T to a place."""
        pose = self._pose
        around = Surroundings(pose, CLEARANCE)
        for _ in range(60):
            left = np.hypot(*(end - self._finger))
            if (left < 3 and np.hypot(*self._velocity) < 40) or np.abs(self._pose - pose).max() > 0.5:
                return
            way = around.way(self._finger, end) or [end]
            yield _ahead(self._finger, way)

    def _choose(self) -> Outcome | None:
        """The best of many pushes, looking ahead to one more."""
        pose, around = self._pose, Surroundings(self._pose, CLEARANCE)
        left = geometry.distance(pose, self._goal)
        first = [self._try(push, pose, self._finger, around) for push in self._pushes(TRIED, left)]
        best = sorted((found for found in first if found is not None), key=lambda found: found.price)[:KEPT]
        close = [self._near(found.push) for found in best[:3] for _ in range(8)]
        more = [self._try(push, pose, self._finger, around) for push in close]
        best = sorted([*best, *(found for found in more if found is not None)], key=lambda found: found.price)[:KEPT]
        ways: list[tuple[float, Outcome]] = []
        for found in best:
            way = around.way(self._finger, found.push.line(pose)[0])
            if way is None:
                continue
            price = found.price + STEP_PRICE * (_length(self._finger, way) - _length(self._finger, way[-1:])) / 25
            if found.left > SOLVED / 2:
                next_around = Surroundings(found.pose, CLEARANCE)
                tried = [
                    self._try(push, found.pose, found.finger, next_around)
                    for push in self._pushes(TRIED_NEXT, found.left)
                ]
                price += min([0.0, *(after.price - found.left for after in tried if after is not None)])
            ways.append((price, found))
        return min(ways, key=lambda pair: pair[0])[1] if ways else None

    def _refined(self, chosen: Outcome) -> Push:
        """The push, or one like it that does better from where the finger has really come to."""
        pushes = [chosen.push, *(self._near(chosen.push) for _ in range(12))] if chosen.left < 20 else [chosen.push]
        tried = [(self._simulate(push, self._pose, self._finger, self._velocity), push) for push in pushes]
        return min(tried, key=lambda pair: pair[0][2] + STEP_PRICE * _steps(pair[1]))[1]

    def _pushes(self, count: int, left: float) -> Iterator[Push]:
        """Pushes to try: shorter ones where little is left to do."""
        longest = min(120.0, 25 + 1.5 * left)
        for _ in range(count):
            yield Push(
                self._draw.uniform(), self._draw.normal(0, 0.3), math.exp(self._draw.uniform(0.5, math.log(longest)))
            )

    def _near(self, push: Push) -> Push:
        """One like it."""
        place, lean, length = self._draw.normal(0, (0.012, 0.08, 0.12))
        return Push(push.place + place, push.lean + lean, push.length * math.exp(length))

    def _try(self, push: Push, pose: np.ndarray, finger: np.ndarray, around: Surroundings) -> Outcome | None:
        """What a push comes to; None: it cannot be done."""
        start, end = push.line(pose)
        low, high = WORKSPACE
        if not (low <= min(start.min(), end.min()) and max(start.max(), end.max()) <= high):
            return None
        if around.gap(start[None])[0] < RADIUS + 1.5:
            return None
        after, rests, left = self._simulate(push, pose, start, np.zeros(2))
        steps = _steps(push) + 3 + np.hypot(*(start - finger)) / 25
        return Outcome(push, after, rests, left, left + STEP_PRICE * steps)

    def _simulate(
        self, push: Push, pose: np.ndarray, finger: np.ndarray, velocity: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Pose, finger and distance after a push from where the finger is; `SOLVED` if the target is covered."""
        copy = self._copy
        place(copy, finger, velocity, pose)
        for target in _targets(*push.line(pose)):
            move(copy, target)
            found = np.array([*copy.block.position, copy.block.angle])
            left = geometry.distance(found, self._goal)
            if left < NEAR and copy._get_coverage() > copy.success_threshold:
                left = SOLVED
                break
        return found, np.array(copy.agent.position), left


def place(env: PushTEnv, finger: np.ndarray, velocity: np.ndarray, pose: np.ndarray) -> None:
    """Put finger and T where they shall be: first the angle, because setting it moves a T whose centre is elsewhere."""
    env.agent.position, env.agent.velocity = tuple(finger.tolist()), tuple(velocity.tolist())
    env.block.angle = float(pose[2])
    env.block.position = (float(pose[0]), float(pose[1]))
    env.block.velocity, env.block.angular_velocity = (0.0, 0.0), 0.0
    env.space.reindex_shapes_for_body(env.block)
    env.space.reindex_shapes_for_body(env.agent)


def move(env: PushTEnv, target: np.ndarray) -> None:
    """One step of the plane as in `PushTEnv.step`, without what is measured after it."""
    x, y = float(target[0]), float(target[1])
    for _ in range(int(1 / (env.dt * env.control_hz))):
        at, speed = env.agent.position, env.agent.velocity
        env.agent.velocity = (
            speed[0] + (env.k_p * (x - at[0]) - env.k_v * speed[0]) * env.dt,
            speed[1] + (env.k_p * (y - at[1]) - env.k_v * speed[1]) * env.dt,
        )
        env.space.step(env.dt)


def _targets(start: np.ndarray, end: np.ndarray) -> Iterator[np.ndarray]:
    """Actions of a push."""
    count = max(1, math.ceil(float(np.hypot(*(end - start))) / PACE))
    for index in range(count):
        yield start + (end - start) * (index + 1) / count
    for _ in range(SETTLE):
        yield end


def _steps(push: Push) -> int:
    return max(1, math.ceil((push.length + GAP) / PACE)) + SETTLE


def _length(start: np.ndarray, way: list[np.ndarray]) -> float:
    points = np.stack([start, *way])
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def _ahead(finger: np.ndarray, way: list[np.ndarray]) -> np.ndarray:
    """The point of a way that leads the finger by `LEAD`."""
    left, here = LEAD, finger
    for there in way:
        length = float(np.hypot(*(there - here)))
        if length >= left:
            return here + (there - here) * left / length
        left, here = left - length, there
    return here
