"""The exponential moving average of the weights that a stage trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from videopolicy.contracts.learner import Learner
from videopolicy.training.sharding import gathered, like, local


def decay_at(updates: int, decay: float, warmup: float | None) -> float:
    """How much of the average stays at its next update.

    Args:
        updates: How often it was updated; the first update copies the weights.
        decay: Its final value.
        warmup: The n-th update after the first has the decay ``1 - n ** -warmup`` until that exceeds ``decay``: the
            first of them copies once more, as in the ``ema_model.py`` that published codes share. None: no warm-up.
    """
    if updates == 0:
        return 0.0
    return decay if warmup is None else min(decay, 1 - updates**-warmup)


class Averaging(Callback):
    """Averages what a learner trains and the buffers beside it, where they are; the average is what training leaves.

    Of weights that are sharded each process averages its share.

    Weights that are frozen are their own average, and Lightning's `WeightAveraging` would copy them, the data set and
    every update.

    Args:
        learner: What is trained.
        decay, warmup: See `decay_at`.
    """

    def __init__(self, learner: Learner, decay: float, warmup: float | None) -> None:
        self._learner, self._decay, self._warmup = learner, decay, warmup
        self._updates, self._steps = 0, 0
        self._average: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step > self._steps:  # batches are accumulated to steps
            self._steps = trainer.global_step
            self._update()

    @torch.no_grad()
    def _update(self) -> None:
        current = dict(self._averaged())
        if self._updates == 0:
            self._average = {name: value.detach().clone() for name, value in current.items()}
        else:
            # A checkpoint's average is on the processor.
            self._average = {name: self._average[name].to(value.device) for name, value in current.items()}
            update = get_ema_multi_avg_fn(decay_at(self._updates, self._decay, self._warmup))
            for dtype in {value.dtype for value in current.values()}:
                names = [name for name, value in current.items() if value.dtype == dtype]
                averages, values = [local(self._average[n]) for n in names], [local(current[n].detach()) for n in names]
                if dtype.is_floating_point:
                    update(averages, values, self._updates)
                else:  # counters
                    torch._foreach_copy_(averages, values)
        self._updates += 1

    def _averaged(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._learner.named_parameters():
            if parameter.requires_grad:
                yield name, parameter
        yield from self._learner.named_buffers()

    @torch.no_grad()
    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        for name, value in self._averaged():
            local(value).copy_(local(self._average[name]))

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self._updates, "steps": self._steps, "average": gathered(self._average)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._updates, self._steps = state_dict["updates"], state_dict["steps"]
        average = state_dict["average"]
        self._average = {name: like(average[name], value) for name, value in self._averaged() if name in average}
