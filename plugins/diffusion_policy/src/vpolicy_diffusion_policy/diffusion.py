"""The schedule of actions, by diffusers."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from videopolicy import RowGenerator, normal_noise, to_device
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
            # The scheduler's own moves to the device where training adds noise.
            self._signal = self.scheduler.alphas_cumprod
            self._levels = from_alphas_cumprod(self._signal)

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
        return to_device(self._levels, timestep.device)[timestep]

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
        if isinstance(self.scheduler, DDPMScheduler):
            return self._ancestral(prediction, timestep, actions, generator)
        following: Tensor = self.scheduler.step(prediction, timestep, actions).prev_sample
        return following

    def _ancestral(self, prediction: Tensor, timestep: Tensor, actions: Tensor, generator: RowGenerator) -> Tensor:
        """diffusers' `DDPMScheduler.step` (Ho et al. 2020, equations 7 and 15), which would have a device wait for the
        noise of every row. Numbers of the schedule stay with the processor."""
        at = self._signal[timestep]
        before = int(self.scheduler.previous_timestep(timestep))
        following = self._signal[before] if before >= 0 else self._signal.new_ones(())
        kept, clip = at / following, self.options.clip
        clean = prediction
        if self.options.predict == "epsilon":
            clean = (actions - (1 - at) ** 0.5 * prediction) / at**0.5
        if clip is not None:
            clean = clean.clamp(-clip, clip)
        mean = (following**0.5 * (1 - kept)) / (1 - at) * clean + kept**0.5 * (1 - following) / (1 - at) * actions
        if timestep == 0:
            return mean
        variance = ((1 - following) / (1 - at) * (1 - kept)).clamp(min=1e-20)
        return mean + variance**0.5 * normal_noise(tuple(prediction.shape), prediction, generator)
