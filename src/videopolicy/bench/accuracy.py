"""How far a policy's actions are from those of the demonstrations."""

from __future__ import annotations

import numpy as np
import torch

from videopolicy.bench.subject import Subject, Trained
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Windows
from videopolicy.recipes.recipe import Recipe
from videopolicy.seeds import derived_seed
from videopolicy.types import RowGenerator

WINDOWS, ROWS = 128, 16


class ErrorMeter:
    """Compares sampled chunks with recorded ones on windows of episodes that were held out, or of the training ones.

    Args:
        windows: Windows of a split.
        split: Its name.
    """

    def __init__(self, windows: Windows, split: str) -> None:
        self.windows = windows
        count = min(WINDOWS, len(windows))
        self.indices = np.linspace(0, len(windows) - 1, count).round().astype(int).tolist()
        self.description = f"{count} windows of the split '{split}'"

    @classmethod
    def of(cls, recipe: Recipe, trained: Trained | None) -> ErrorMeter | None:
        """A meter for trained weights whose data can be opened; otherwise None."""
        if trained is None or trained.dataset is None:
            return None
        held_out = [name for name, episodes in trained.dataset.splits.items() if name != "train" and episodes]
        split = (held_out or ["train"])[0]
        windows = trained.dataset.windows(recipe.policy.window(), split)
        return cls(windows, split) if len(windows) else None

    @torch.inference_mode()
    def error(self, subject: Subject, reporter: Reporter) -> float:
        """Mean absolute error of normalised actions over all actions that were recorded.

        Every window's noise is its own, the same for every policy that is compared.
        """
        total, count = 0.0, 0
        with reporter.activity("action error", len(self.indices)) as progress:
            for start in range(0, len(self.indices), ROWS):
                chosen = self.indices[start : start + ROWS]
                batch = subject.normalizer.batch(self.windows.batch(chosen).to(subject.settings.torch_device))
                subject.policy.reset(list(range(len(chosen))))
                generator = RowGenerator.from_seeds([derived_seed(0, "bench", index) for index in chosen])
                with subject.settings.numbers():
                    actions = subject.policy.act(batch.observation, generator)
                assert batch.actions is not None and batch.action_mask is not None
                error = (actions - batch.actions).abs().mean(-1)[batch.action_mask]
                total, count = total + float(error.sum()), count + error.numel()
                progress.advance(len(chosen))
        return total / max(count, 1)
