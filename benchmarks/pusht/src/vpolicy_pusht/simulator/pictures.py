"""The plane as gym-pusht draws it, with visual disturbances where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pygame
from gym_pusht.envs.pusht import PushTEnv
from gym_pusht.envs.pymunk_override import DrawOptions

PLANE = 512
"""Height and width of a drawing before it is scaled."""
OBJECT_SIZES = (18.0, 40.0)
"""Least and largest distance of an object's corners from its middle."""


class Pictures:
    """Draws the plane.

    With gym-pusht's own colors and no objects the drawing is its own, pixel by pixel (`PushTEnv._draw`).

    Args:
        size: Height and width in pixels.
        background: Red, green and blue behind everything.
        objects: How many shapes lie in the background. They touch nothing; target, T and finger are drawn over them.
        goal: Color of the target.
    """

    def __init__(self, size: int, background: Sequence[int], objects: int, goal: Sequence[int]) -> None:
        self.size = size
        self._background, self._goal = pygame.Color(*background), pygame.Color(*goal)
        self._count = objects
        self._objects: list[tuple[pygame.Color, np.ndarray]] = []

    def begin(self, draw: np.random.Generator) -> None:
        """Lay the objects of an episode: regular shapes of 3 to 8 corners, of any color."""
        self._objects = []
        for _ in range(self._count):
            corners = int(draw.integers(3, 9))
            angles = draw.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
            circle = np.stack([np.cos(angles), np.sin(angles)], 1)
            middle = draw.uniform(OBJECT_SIZES[1], PLANE - OBJECT_SIZES[1], 2)
            color = pygame.Color(*draw.integers(0, 256, 3).tolist())
            self._objects.append((color, middle + draw.uniform(*OBJECT_SIZES) * circle))

    def draw(self, env: PushTEnv) -> np.ndarray:
        """What is seen now, ``(size, size, 3)`` uint8."""
        screen = pygame.Surface((PLANE, PLANE))
        screen.fill(self._background)
        for color, points in self._objects:
            pygame.draw.polygon(screen, color, points.tolist())
        target = env.get_goal_pose_body(env.goal_pose)
        for shape in env.block.shapes:
            points = [target.local_to_world(vertex) for vertex in shape.get_vertices()]
            # pygame_util's coordinates are whole pixels, rounded as gym-pusht's are
            pygame.draw.polygon(screen, self._goal, [(round(x), round(y)) for x, y in [*points, points[0]]])
        env.space.debug_draw(DrawOptions(screen))
        picture = np.transpose(pygame.surfarray.array3d(screen), (1, 0, 2))
        return cv2.resize(picture, (self.size, self.size))
