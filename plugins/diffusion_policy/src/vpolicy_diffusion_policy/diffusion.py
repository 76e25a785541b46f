"""The schedule of actions, by diffusers."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from videopolicy import RowGenerator
from videopolicy.parts.levels import from_alphas_cumprod
from vpolicy_diffusion_policy.options import Diffusion


class ActionDiffusion:
    """Noise put in and taken out.

    Args:
        options: Of the diffusion.
    """

    def __init__(self, options: Diffusion) -> None:
        self.options = options
        scheduler = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}[options.sampler]
        # Numbers of the schedule are wanted for real, also where a network is built without memory.
        with torch.device("cpu"):
            self.scheduler = scheduler(
                num_train_timesteps=options.training_steps,
                beta_start=0.0001,
                beta_end=0.02,
                beta_schedule=options.schedule,
                prediction_type=options.predict,
                clip_sample=options.clip is not None,
                clip_sample_range=options.clip or 1.0,
            )
            self.scheduler.set_timesteps(options.sampling_steps)
            self._levels = from_alphas_cumprod(self.scheduler.alphas_cumprod)

    @property
    def timesteps(self) -> Tensor:
        """Those that sampling visits, falling."""
        return self.scheduler.timesteps

    @property
    def sampling_levels(self) -> Tensor:
        """The levels of these timesteps, and a final 0."""
        levels = self._levels[self.timesteps]
        return torch.cat([levels, levels.new_zeros(1)])

    def level(self, timestep: Tensor) -> Tensor:
        """Noise-to-signal ratios at timesteps, in their shape."""
        return self._levels.to(timestep.device)[timestep]

    def draw(self, rows: int, device: torch.device) -> Tensor:
        """Uniform timesteps ``(rows,)`` from torch's global generator."""
        return torch.randint(0, self.options.training_steps, (rows,), device=device)

    def noisy(self, actions: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``(B, H, A)`` at timesteps ``(B,)``, and what the network should predict of them."""
        noise = torch.randn_like(actions)
        added = noise
        if self.options.input_perturbation:
            added = noise + self.options.input_perturbation * torch.randn_like(noise)
        noisy: Tensor = self.scheduler.add_noise(actions, added, timestep)
        return noisy, noise if self.options.predict == "epsilon" else actions

    def step(self, prediction: Tensor, timestep: Tensor, actions: Tensor, generator: RowGenerator) -> Tensor:
        """The actions ``(B, H, A)`` one sampling step on; the rows' own noise where the sampler draws any."""
        result = self.scheduler.step(prediction, timestep, actions, generator=generator.generators)
        following: Tensor = result.prev_sample
        return following
