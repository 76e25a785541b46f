"""The T's outline, and ways of the finger round it."""

from __future__ import annotations

import heapq
import math

import numpy as np
import shapely

RADIUS = 15.0
"""Of the finger, in units of the plane."""
WORKSPACE = (12.0, 500.0)
"""Where the finger may go."""
OUTLINE = np.array([(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], float)
"""Corners of the T in its own frame, in order."""

_EDGES = np.roll(OUTLINE, -1, 0) - OUTLINE
_LENGTHS = np.hypot(*_EDGES.T)
_ENDS = np.cumsum(_LENGTHS)


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Points ``(..., 2)`` turned by an angle in radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def corners(pose: np.ndarray) -> np.ndarray:
    """The T's corners ``(8, 2)`` where its pose is ``(x, y, angle)``."""
    return turned(OUTLINE, pose[2]) + pose[:2]


def distance(pose: np.ndarray, goal: np.ndarray) -> float:
    """Root mean square of the distances of the T's corners to those ``(8, 2)`` of the target."""
    return float(np.sqrt(((corners(pose) - goal) ** 2).sum(1).mean()))


def on_outline(place: float) -> tuple[np.ndarray, np.ndarray]:
    """Point and inner normal, in the T's frame, at a multiple in [0, 1) of the outline's length."""
    along = (place % 1) * _ENDS[-1]
    edge = int(np.searchsorted(_ENDS, along, "right"))
    direction = _EDGES[edge] / _LENGTHS[edge]
    point = OUTLINE[edge] + direction * (along - _ENDS[edge] + _LENGTHS[edge])
    return point, np.array([-direction[1], direction[0]])


class Surroundings:
    """What the finger has to go round.

    Args:
        pose: Of the T, ``(x, y, angle)``.
        clearance: Between the finger and the T on the way.
    """

    def __init__(self, pose: np.ndarray, clearance: float) -> None:
        self._shape = shapely.Polygon(corners(pose))
        shapely.prepare(self._shape)
        self._hull = self._shape.buffer(RADIUS + clearance, join_style="mitre")
        inner = self._shape.buffer(RADIUS + clearance - 1, join_style="mitre")
        shapely.prepare(inner)
        self._inner = inner
        low, high = WORKSPACE
        nodes = np.asarray(self._hull.exterior.coords)[:-1]
        self._nodes = nodes[((nodes >= low) & (nodes <= high)).all(1)]
        self._between = self._free(self._nodes, self._nodes)

    def gap(self, points: np.ndarray) -> np.ndarray:
        """Distances of points ``(n, 2)`` from the T."""
        return shapely.distance(self._shape, shapely.points(points))

    def way(self, start: np.ndarray, end: np.ndarray) -> list[np.ndarray] | None:
        """Points to go through from a start to an end, both ``(2,)``, the end included; None: there is no way."""
        first, last = self._outside(start), self._outside(end)
        ends = [end] if last is end else [last, end]
        begin = [] if first is start else [first]
        if self._free(first[None], last[None])[0, 0]:
            return [*begin, *ends]
        count = len(self._nodes)
        points = np.concatenate([self._nodes, first[None], last[None]])
        free = np.zeros((count + 2, count + 2), bool)
        free[:count, :count] = self._between
        free[count, :count] = self._free(first[None], self._nodes)[0]
        free[:count, count + 1] = self._free(self._nodes, last[None])[:, 0]
        path = _shortest(points, free, count, count + 1)
        return None if path is None else [*begin, *(points[index] for index in path[1:-1]), *ends]

    def _outside(self, point: np.ndarray) -> np.ndarray:
        """The point, or the nearest one that keeps the clearance."""
        seen = shapely.Point(point)
        if not self._inner.contains(seen):
            return point
        boundary = self._hull.exterior
        nearest = boundary.interpolate(boundary.project(seen))
        return np.clip([nearest.x, nearest.y], *WORKSPACE)

    def _free(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Which lines between points ``(n, 2)`` and ``(m, 2)`` keep the clearance, ``(n, m)``."""
        if not len(starts) or not len(ends):
            return np.zeros((len(starts), len(ends)), bool)
        pairs = np.stack(
            [
                np.broadcast_to(starts[:, None], (len(starts), len(ends), 2)),
                np.broadcast_to(ends, (len(starts), len(ends), 2)),
            ],
            2,
        )
        return ~shapely.intersects(self._inner, shapely.linestrings(pairs))


def _shortest(points: np.ndarray, free: np.ndarray, start: int, end: int) -> list[int] | None:
    """Dijkstra's shortest path through points along the free lines."""
    best, before = {start: 0.0}, {}
    queue, seen = [(0.0, start)], set()
    while queue:
        length, here = heapq.heappop(queue)
        if here == end:
            path = [end]
            while path[-1] != start:
                path.append(before[path[-1]])
            return path[::-1]
        if here in seen:
            continue
        seen.add(here)
        for there in np.flatnonzero(free[here]):
            further = length + float(np.hypot(*(points[there] - points[here])))
            if further < best.get(int(there), math.inf):
                best[int(there)], before[int(there)] = further, here
                heapq.heappush(queue, (further, int(there)))
    return None
