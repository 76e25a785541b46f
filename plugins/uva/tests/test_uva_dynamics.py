"""The joint model as a model of forward dynamics and nothing else."""

from __future__ import annotations

from dataclasses import replace

import torch
from vpolicy_uva.components import UvaJoint
from vpolicy_uva.options import Head, Transformer

from videopolicy import Window
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import toy_batch, toy_spaces


def forward_model(**options) -> UvaJoint:
    """A small joint model that is conditioned on actions."""
    transformer = Transformer(width=16, depth=1, heads=2, attention_dropout=0, dropout=0)
    small = {"image_size": (16, 16), "frames": 2, "stride": 2, "history_stride": 0, "text": None}
    head = Head(width=16, depth=1, sampling_steps=3)
    return UvaJoint(**small, latent=SpaceToDepthLatent(patch=8), transformer=transformer, video=head, **options)


def test_a_joint_model_may_learn_forward_dynamics_alone():
    assert forward_model().window() == Window((0,), (2, 4)) and forward_model(forward=True).window().horizon == 4
    batch = toy_batch(toy_spaces(16), Window((0,), (2, 4), 4))
    assert batch.actions is not None
    others = replace(batch, actions=-batch.actions)
    for forward in (False, True):
        model = forward_model(forward=forward).build(toy_spaces(16))
        losses = []
        for windows in (batch, others):
            torch.manual_seed(0)
            with torch.no_grad():
                for parameter in model.parameters():  # the last layers begin with zeros
                    parameter.normal_(0, 0.1)
                losses.append(model.loss(windows)["video"].item())
        assert (losses[0] != losses[1]) is forward
