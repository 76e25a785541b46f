"""The moving average of the weights, as Lightning calls it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from videopolicy import Learner, Window
from videopolicy.training.averaging import Averaging, decay_at


def test_the_averages_decay_warms_up_as_diffusers_has_it():
    from diffusers.training_utils import EMAModel

    theirs = EMAModel([], decay=0.9, use_ema_warmup=True, inv_gamma=1, power=0.75, update_after_step=1)
    for updates in range(40):
        assert decay_at(updates, 0.9, 0.75) == pytest.approx(theirs.get_decay(updates + 1)), updates
    assert [decay_at(updates, 0.9, None) for updates in range(3)] == [0.0, 0.9, 0.9]


class Drifting(Learner):
    """A weight that is trained, one that is frozen, and buffers of two kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.frozen = nn.Linear(1, 1), nn.Linear(1, 1).requires_grad_(False)
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @property
    def window(self) -> Window:
        return Window()

    def loss(self, batch):
        raise NotImplementedError

    def move(self, step: int) -> None:
        with torch.no_grad():
            for value in (self.layer.weight, self.layer.bias, self.mean, self.count):
                value.fill_(step**2)


@pytest.mark.parametrize("warmup", [None, 0.75])
@pytest.mark.parametrize("interrupted", [None, 0, 1, 4])
def test_the_average_is_of_all_that_moves_and_survives_an_interruption(warmup, interrupted):
    learner = Drifting()
    frozen = learner.frozen.weight.clone()
    averaging, trainer = Averaging(learner, 0.9, warmup), SimpleNamespace(global_step=0)
    expected = None
    for step in range(12):
        learner.move(step)
        expected = step**2 if expected is None else (d := decay_at(step, 0.9, warmup)) * expected + (1 - d) * step**2
        trainer.global_step = step + 1
        for _ in range(2):  # the second batch of an accumulated step
            averaging.on_train_batch_end(trainer, None)
        if step == interrupted:
            state = copy.deepcopy(averaging.state_dict())
            averaging = Averaging(learner, 0.9, warmup)
            averaging.load_state_dict(state)
    assert "frozen.weight" not in averaging.state_dict()["average"]
    assert learner.layer.weight.item() == 121
    averaging.on_train_end(trainer, None)
    for value in (learner.layer.weight, learner.layer.bias, learner.mean):
        assert value.flatten().tolist() == pytest.approx([expected] * value.numel())
    assert learner.count.item() == 121 and torch.equal(learner.frozen.weight, frozen)
