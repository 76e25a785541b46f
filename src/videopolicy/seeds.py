"""The order of training data as a function of seed and step alone, so that a resumed stage sees what an
uninterrupted one would have seen."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on all parts, such as ``(seed, "stage", step)``."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class StepOrder(Protocol):
    """Which windows every step sees."""

    def indices(self, step: int) -> list[int]:
        """The windows of one step."""
        ...


class Order:
    """Endless epochs over ``count`` windows, each a permutation of its own.

    Args:
        count: Number of windows.
        batch_size: Windows a step, over all devices.
        seed: Of the stage.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._epoch = -1
        self._permutation = np.arange(0)

    def indices(self, step: int) -> list[int]:
        """The windows of one step."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [int(self._of_epoch(position // self.count)[position % self.count]) for position in positions]

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            generator = np.random.default_rng(derived_seed(self.seed, "epoch", epoch))
            self._epoch, self._permutation = epoch, generator.permutation(self.count)
        return self._permutation
