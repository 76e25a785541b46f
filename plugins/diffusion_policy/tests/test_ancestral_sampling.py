"""A sampling step with noise of the rows' own, against diffusers'."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from vpolicy_diffusion_policy.diffusion import ActionDiffusion
from vpolicy_diffusion_policy.options import Diffusion

from videopolicy import RowGenerator


@pytest.mark.parametrize("predict", ["epsilon", "sample"])
@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize("steps", [20, 7])
def test_equals_diffusers_to_the_last_bit(predict, clip, steps):
    options = Diffusion(training_steps=20, sampling_steps=steps, predict=predict, clip=clip)
    diffusion = ActionDiffusion(options)
    assert isinstance(diffusion.scheduler, DDPMScheduler)
    ours, theirs = RowGenerator.from_seeds([1, 2, 3]), RowGenerator.from_seeds([1, 2, 3])
    torch.manual_seed(0)
    actions = torch.randn(3, 4, 2)
    for timestep in diffusion.timesteps:
        prediction = torch.randn(3, 4, 2)
        expected = diffusion.scheduler.step(prediction, timestep, actions, generator=theirs.generators).prev_sample
        actions = diffusion.step(prediction, timestep, actions, ours)
        assert torch.equal(actions, expected)
