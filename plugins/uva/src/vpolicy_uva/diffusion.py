"""The diffusion of UVA's heads: cosine schedule, learned variance, ancestral sampling with a temperature.

The official code has it from MAR, which has it from Nichol and Dhariwal's improved diffusion (arXiv 2102.09672):
``unified_video_action/model/autoregressive/diffusion``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from videopolicy.parts.levels import from_alphas_cumprod
from vpolicy_uva.options import Head


def cosine_signal(steps: int) -> np.ndarray:
    """Cumulative products ``(steps,)`` of Nichol and Dhariwal's equation 17, betas cut at 0.999.

    In double precision: what the loss takes from them are differences to 1 that single precision rounds away.
    """
    bar = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - bar[1:] / bar[:-1], 0.999))


class Diffusion(nn.Module):
    """What training needs of the schedule.

    Args:
        steps: T, timesteps 0 .. T-1.
    """

    table: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        signal = cosine_signal(steps)
        before = np.append(1.0, signal[:-1])
        beta = 1 - signal / before
        posterior = beta * (1 - before) / (1 - signal)
        posterior[0] = posterior[1]  # it is 0, and its logarithm is asked for
        shift = beta / np.sqrt((1 - beta) * (1 - signal))
        columns = np.sqrt(signal), np.sqrt(1 - signal), shift, np.log(posterior), np.log(beta)
        self.register_buffer("table", torch.tensor(np.stack(columns, axis=1), dtype=torch.float32), persistent=False)

    def draw_timesteps(self, count: int) -> Tensor:
        """Uniform timesteps ``(count,)`` from torch's global generator."""
        return torch.randint(0, self.steps, (count,), device=self.table.device)

    def level(self, timestep: Tensor) -> Tensor:
        """The noise-to-signal ratio at timesteps, in their shape."""
        return self.table[timestep, 1] / self.table[timestep, 0]

    def noisy(self, clean: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """``(N, C)`` at timesteps ``(N,)``."""
        signal, spread, *_ = self._at(timestep)
        return signal * clean + spread * noise

    def losses(self, output: Tensor, clean: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """Squared error of the noise, and for the variance the variational bound in bits per dimension, in which the
        mean is held fixed (``GaussianDiffusion.training_losses``).

        Args:
            output: The network's noise and variance ``(N, 2 C)``.
            clean: ``(N, C)``.
            timestep: ``(N,)``.
            noise: That was added ``(N, C)``.

        Returns:
            ``(N,)``.
        """
        *_, shift, log_low, log_high = self._at(timestep)
        epsilon, fraction = output.to(clean.dtype).chunk(2, dim=-1)
        squared = ((noise - epsilon) ** 2).mean(dim=-1)
        log_variance = log_low + (log_high - log_low) * (fraction + 1) / 2
        # How far the posterior's mean, at timestep 0 the clean sample itself, is from the predicted mean.
        error = shift * (epsilon.detach() - noise)
        kl = 0.5 * (log_variance - log_low - 1 + (log_low - log_variance).exp() + error**2 * (-log_variance).exp())
        first = (timestep == 0).unsqueeze(-1)
        likelihood = _discretised_log_likelihood(clean, torch.where(first, error, 0), 0.5 * log_variance)
        return squared + torch.where(first, -likelihood, kl).mean(dim=-1) / math.log(2)

    def _at(self, timestep: Tensor) -> tuple[Tensor, ...]:
        """Columns ``(N, 1)`` of the table at timesteps ``(N,)``."""
        return self.table[timestep].unsqueeze(-1).unbind(dim=1)


def _discretised_log_likelihood(clean: Tensor, error: Tensor, log_deviation: Tensor) -> Tensor:
    """Log likelihood of values in [-1, 1] in bins of 2 / 255, as of bytes, with an approximate normal distribution.

    Args:
        clean: The values, of which the lowest and the highest bin are open.
        error: Values minus means.
    """
    scale = (-log_deviation).exp()
    below_upper, below_lower = (_normal_cdf(scale * (error + side / 255)) for side in (1, -1))
    inside = (below_upper - below_lower).clamp(min=1e-12).log()
    lowest, highest = below_upper.clamp(min=1e-12).log(), (1 - below_lower).clamp(min=1e-12).log()
    return torch.where(clean < -0.999, lowest, torch.where(clean > 0.999, highest, inside))


def _normal_cdf(values: Tensor) -> Tensor:
    return 0.5 * (1 + (math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)).tanh())


@dataclass(frozen=True)
class _Step:
    """Numbers of one sampling step: the clean estimate, the mean, and half the logarithm of the variance are each a
    linear function of two things."""

    from_noisy: float
    from_noise: float
    mean_clean: float
    mean_noisy: float
    centre: float
    half_range: float


class TemperedScheduler(DDPMScheduler):
    """diffusers' ancestral sampler with learned variance, whose noise is handed in and scaled by a temperature.

    diffusers' ``step`` draws its noise from one generator for all rows and has no temperature. This one also keeps its
    numbers with the processor, in double precision, so that a device computes six small operations a step and is never
    waited for.

    Args:
        training_steps: Of the cosine schedule.
        steps: Of the evenly respaced schedule.
        temperature: Scale of the noise of each step.
        clip: Where the clean estimate is cut on either side of 0; None: nowhere.
    """

    def __init__(self, training_steps: int, steps: int, temperature: float, clip: float | None) -> None:
        super().__init__(
            training_steps,
            beta_schedule="squaredcos_cap_v2",
            variance_type="learned_range",
            prediction_type="epsilon",
            timestep_spacing="linspace",
            clip_sample=clip is not None,
            clip_sample_range=clip or 1.0,
        )
        self.set_timesteps(steps)
        self.temperature, self.clip = temperature, clip
        signal = cosine_signal(training_steps)[self.timesteps.numpy()]
        self.levels = from_alphas_cumprod(torch.from_numpy(np.append(signal, 1.0))).float()
        """Levels ``(steps + 1,)`` of the timesteps, and a final 0."""
        self._steps = [_step(*pair) for pair in zip(signal, np.append(signal[1:], 1.0), strict=True)]

    def advance(self, index: int, output: Tensor, sample: Tensor, noise: Tensor) -> Tensor:
        """The sample after step ``index`` ``(N, C)``.

        Args:
            output: The network's noise and variance ``(N, 2 C)`` at this step.
            sample: ``(N, C)``.
            noise: Unit normal ``(N, C)``; the last step ignores it.
        """
        step = self._steps[index]
        epsilon, fraction = output.chunk(2, dim=-1)
        clean = step.from_noisy * sample - step.from_noise * epsilon
        if self.clip is not None:
            clean = clean.clamp(-self.clip, self.clip)
        mean = step.mean_clean * clean + step.mean_noisy * sample
        if index == len(self._steps) - 1:
            return mean
        return mean + self.temperature * (step.centre + step.half_range * fraction).exp() * noise


def _step(signal: float, following: float) -> _Step:
    """From one cumulative product to the next, higher one (Ho et al. 2020, equations 7 and 15)."""
    beta = 1 - signal / following
    posterior = beta * (1 - following) / (1 - signal)
    low, high = math.log(max(posterior, 1e-20)), math.log(beta)
    return _Step(
        from_noisy=math.sqrt(1 / signal),
        from_noise=math.sqrt(1 / signal - 1),
        mean_clean=beta * math.sqrt(following) / (1 - signal),
        mean_noisy=(1 - following) * math.sqrt(1 - beta) / (1 - signal),
        centre=(high + low) / 4,
        half_range=(high - low) / 4,
    )


@cache
def scheduler(options: Head) -> TemperedScheduler:
    """The sampler of a head."""
    return TemperedScheduler(options.training_steps, options.sampling_steps, options.temperature, options.clip)
