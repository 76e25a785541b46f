"""Windows of latents, and an order in which what is read next lies together."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videopolicy import Batch, EncodedRun, Observation
from vpolicy_encoded_clips.layout import Shards, unpacked
from vpolicy_encoded_clips.library import litdata_items

_KEPT = 4
"""Runs that were read last."""


class EncodedRuns:
    """The runs of one folder of shards. Every process opens them for itself.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._items: tuple[int, Any] | None = None
        self._last: OrderedDict[int, EncodedRun] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_items": None, "_last": OrderedDict()}

    def __getitem__(self, number: int) -> EncodedRun:
        if number not in self._last:
            if self._items is None or self._items[0] != os.getpid():
                self._items = os.getpid(), litdata_items(self._folder)
            run = unpacked(self._items[1][number], f"Run {number} of {self._folder}")
            self._last[number] = run
            if len(self._last) > _KEPT:
                self._last.popitem(last=False)
        return self._last[number]


class EncodedWindows:
    """Windows that hold latents in place of frames.

    Args:
        shards: What is known of every camera's; they have the same windows.
        runs: Their runs.
    """

    def __init__(self, shards: Mapping[str, Shards], runs: Mapping[str, EncodedRuns]) -> None:
        self._runs = dict(runs)
        self._ends = {camera: np.cumsum(one.runs) for camera, one in shards.items()}
        first = next(iter(shards.values()))
        self.of_shards = np.add.reduceat(first.runs, np.cumsum(first.shards) - first.shards)
        """Windows of every shard."""

    def __len__(self) -> int:
        return int(self.of_shards.sum())

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows at these indices as one batch."""
        latents: dict[str, torch.Tensor] = {}
        there, texts = [], []
        for camera, ends in self._ends.items():
            rows = []
            for index in indices:
                number = int(np.searchsorted(ends, index, side="right"))
                run = self._runs[camera][number]
                place = index - (int(ends[number - 1]) if number else 0)
                rows.append(run.latents[torch.from_numpy(run.frames[place])])
                if not latents:  # of the first camera: it is the same for all
                    there.append(torch.from_numpy(run.there[place]))
                    texts.append(run.texts[place])
            latents[camera] = torch.stack(rows)
        return Batch(Observation({}, texts), future_mask=torch.stack(there), latents=latents)


class NearWindows(EncodedWindows):
    """The same, of which those that are seen soon after each other lie together.

    Args:
        shards: What is known of every camera's; they have the same windows.
        runs: Their runs.
        shuffled: Shards among which windows are shuffled.
    """

    def __init__(self, shards: Mapping[str, Shards], runs: Mapping[str, EncodedRuns], shuffled: int) -> None:
        super().__init__(shards, runs)
        self._shuffled = shuffled

    def order(self, batch_size: int, seed: int) -> ShardOrder:
        """Which of the windows every step sees."""
        return ShardOrder(self.of_shards, self._shuffled, batch_size, seed)


class ShardOrder:
    """Endless epochs; in each, shards come in another order, and windows are shuffled among some shards at a time.

    A function of the seed and the step.

    Args:
        sizes: Windows of every shard.
        shuffled: Shards among which they are shuffled.
        batch_size: Windows a step.
        seed: Of the stage.
    """

    def __init__(self, sizes: np.ndarray, shuffled: int, batch_size: int, seed: int) -> None:
        self._sizes, self._shuffled, self._batch_size, self._seed = sizes, shuffled, batch_size, seed
        self._begins = np.cumsum(sizes) - sizes
        self._epoch, self._permutation = -1, np.arange(0)

    def indices(self, step: int) -> list[int]:
        """The windows of one step."""
        count = int(self._sizes.sum())
        places = range(step * self._batch_size, (step + 1) * self._batch_size)
        return [int(self._of_epoch(place // count)[place % count]) for place in places]

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            generator = np.random.default_rng([self._seed % 2**63, epoch])
            order = generator.permutation(len(self._sizes))
            groups = []
            for start in range(0, len(order), self._shuffled):
                chosen = order[start : start + self._shuffled]
                windows = [np.arange(self._sizes[one]) + self._begins[one] for one in chosen]
                groups.append(generator.permutation(np.concatenate(windows)))
            self._epoch, self._permutation = epoch, np.concatenate(groups)
        return self._permutation
