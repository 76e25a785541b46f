"""Losses on the same windows again and again while a stage trains: a curve with no noise of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from videopolicy.contracts.dataset import Dataset, Windows
from videopolicy.contracts.learner import Learner
from videopolicy.parts.windows import TRAIN
from videopolicy.seeds import derived_seed
from videopolicy.training.mixture import Mixture
from videopolicy.training.normalization import Normalizer
from videopolicy.types import Batch, Window

PREFIX = "validation"


def validation_windows(dataset: Dataset, window: Window) -> dict[str, Windows]:
    """What is measured on: of every part of a mixture by itself, of other data under an empty name.

    They are those that are held out, or those for training where none are.
    """
    if isinstance(dataset, Mixture):
        return dataset.held_out(window)
    others = [split for split, count in dataset.splits.items() if split != TRAIN and count]
    return {"": dataset.windows(window, others[0] if others else TRAIN)}


class Validation:
    """Reads its windows once.

    Args:
        learner: What is trained.
        normalizer: Scales every batch.
        windows: By name.
        rows: Windows of every name, spread evenly.
        every: Steps from one validation to the next.
        seed: Of the noise, which is the same every time.
    """

    def __init__(
        self,
        learner: Learner,
        normalizer: Normalizer,
        windows: Mapping[str, Windows],
        rows: int,
        every: int,
        seed: int,
    ) -> None:
        self._learner, self._normalizer, self._every, self._seed = learner, normalizer, every, seed
        self._batches: dict[str, Batch] = {}
        for name, found in windows.items():
            count = min(rows, len(found))
            self._batches[name] = found.batch([(2 * i + 1) * len(found) // (2 * count) for i in range(count)])

    def is_due(self, step: int) -> bool:
        """Whether it is after so many steps."""
        return step % self._every == 0

    @torch.no_grad()
    def losses(self, device: torch.device) -> dict[str, float]:
        """The losses now, called ``validation/NAME/LOSS``. torch's global generator is reseeded."""
        found: dict[str, float] = {}
        self._learner.eval()
        for name, batch in self._batches.items():
            torch.manual_seed(derived_seed(self._seed, PREFIX, name))
            losses = self._learner.loss(self._normalizer.batch(batch.to(device)))
            found |= {"/".join(filter(None, (PREFIX, name, loss))): float(one) for loss, one in losses.items()}
        self._learner.train()
        return found
