"""Stable Video Diffusion as a video backbone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videopolicy import (
    Batch,
    Denoised,
    FeatureLayout,
    Observation,
    RowGenerator,
    Spaces,
    VideoBackbone,
    Window,
    normal_noise,
    stack_views,
    to_bytes,
)
from vpolicy_svd.components import MicroConditioning, SpaceToDepthLatent, Svd
from vpolicy_svd.latents import SpaceToDepth, Vae
from vpolicy_svd.unet import build_unet, reading

if TYPE_CHECKING:
    from diffusers import EulerDiscreteScheduler


@dataclass
class SvdCondition:
    """What the network is told besides the noisy clip; M = B V clips.

    Args:
        image: ``(M, c, h, w)``, the latent of the first frame without its scaling factor.
        text: ``(M, L, D)``.
        ids: ``(M, 3)``, frames a second, motion bucket, noise augmentation.
    """

    image: Tensor
    text: Tensor
    ids: Tensor


class SvdBackbone(VideoBackbone):
    """See `vpolicy_svd.components.Svd` for the options and their sources.

    Views are the cameras of the spaces, in their order.
    """

    def __init__(self, options: Svd, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self.cameras = tuple(camera.name for camera in spaces.cameras)
        if isinstance(options.latent, SpaceToDepthLatent):
            self.latent: SpaceToDepth | Vae = SpaceToDepth(options.latent)
        else:
            self.latent = Vae(options.latent, options.weights)
        self.text = options.text.build()
        self.unet = build_unet(options)

    @property
    def window(self) -> Window:
        return self.options.window()

    @property
    def clip_offsets(self) -> tuple[int, ...]:
        return self.options.clip_offsets

    @property
    def tap_specs(self) -> dict[str, FeatureLayout]:
        return self.options.taps()

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        return self.options.frames, self.options.latent.latent_channels, *self.options.latent_grid

    @property
    def highest_level(self) -> float:
        return self.options.level_max

    def encode(self, frames: Tensor) -> Tensor:
        return self._encode(frames, sample=False)

    def _encode(self, frames: Tensor, sample: bool) -> Tensor:
        return self.latent.encode(frames.flatten(0, 2), sample).unflatten(0, frames.shape[:3])

    def decode(self, latents: Tensor) -> Tensor:
        return self.latent.decode(latents.flatten(0, 2), latents.shape[2]).unflatten(0, latents.shape[:3])

    def text_tokens(self, sentences: list[str]) -> Tensor:
        """Tokens ``(B, L, D)`` as the cross-attention reads them (official ``encode_text``)."""
        tokens = self.text(sentences).tokens
        if self.options.position_encode:
            tokens = tokens + sine_cosine(tokens.shape[1], tokens.shape[2]).to(tokens)
        return torch.cat([tokens, tokens], dim=-1) if self.options.double_text else tokens

    def condition(self, observation: Observation, unconditional: bool = False) -> SvdCondition:
        return self._condition(observation, self.options.reading, unconditional)

    def _condition(
        self, observation: Observation, numbers: MicroConditioning, unconditional: bool = False
    ) -> SvdCondition:
        present = {name: observation.images[name][:, -1:] for name in self.cameras}
        views = stack_views(present, self.options.image_size).to(self.unet.conv_in.weight)
        image = self.encode(views)[:, :, 0].flatten(0, 1) / self.latent.scaling_factor
        text = self.text_tokens(observation.instructions)
        if unconditional:
            text = torch.zeros_like(text)
            image = torch.zeros_like(image) if self.options.unconditional_image == "zero" else image
        return SvdCondition(image, text.repeat_interleave(views.shape[1], dim=0), micro_ids(numbers, image))

    def denoise(
        self, noisy: Tensor, level: Tensor, condition: SvdCondition, taps: Sequence[str] = (), predict: bool = True
    ) -> Denoised:
        batch, views, frames = noisy.shape[:3]
        levels = level.to(noisy).repeat_interleave(views)
        clips = noisy.flatten(0, 1)
        output = None
        with reading(self.unet, taps, stop=not predict) as found:
            output = self._network(clips, levels, condition)
        prediction = None if output is None else _clean(clips, levels, output).unflatten(0, (batch, views))
        return Denoised(
            prediction,
            {tap: found[tap].unflatten(0, (batch, views, frames)) for tap in taps},
            found["time"].unflatten(0, (batch, views))[:, 0],
        )

    def _network(self, noisy: Tensor, level: Tensor, condition: SvdCondition) -> Tensor:
        """The network's own output F ``(M, T, c, h, w)`` at levels ``(M,)``."""
        return self._unet(noisy / (level**2 + 1).sqrt().view(-1, 1, 1, 1, 1), level, condition)

    def _unet(self, scaled: Tensor, level: Tensor, condition: SvdCondition) -> Tensor:
        image = condition.image.unsqueeze(1).expand(-1, scaled.shape[1], -1, -1, -1)
        inputs = torch.cat([scaled, image], dim=2)
        return self.unet(inputs, level.log() / 4, condition.text, condition.ids, return_dict=False)[0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        images = batch.observation.images
        clips = {name: torch.cat([images[name][:, -1:], batch.future[name]], dim=1) for name in self.cameras}
        frames = stack_views(clips, self.options.image_size).to(self.unet.conv_in.weight)
        views = frames.shape[1]
        clean = self._encode(frames, sample=True).flatten(0, 1)
        text = self.text_tokens(batch.observation.instructions).repeat_interleave(views, dim=0)
        kept = torch.rand(len(clean), device=clean.device) > self.options.text_drop
        normal = torch.randn(len(clean), device=clean.device, dtype=clean.dtype)
        level = (self.options.level_deviation * normal + self.options.level_mean).exp()
        condition = SvdCondition(
            clean[:, 0] / self.latent.scaling_factor,
            text * kept.view(-1, 1, 1),
            micro_ids(self.options.training, clean),
        )
        mask = None
        if self.options.past_end == "mask" and batch.future_mask is not None:
            present = torch.ones_like(batch.future_mask[:, :1])
            mask = torch.cat([present, batch.future_mask], dim=1).repeat_interleave(views, dim=0)
        return {"video": self.diffusion_loss(clean, torch.randn_like(clean), level, condition, mask)}

    def diffusion_loss(
        self, clean: Tensor, noise: Tensor, level: Tensor, condition: SvdCondition, mask: Tensor | None = None
    ) -> Tensor:
        """EDM loss: squared error of the prediction, weighted by ``(s^2 + 1) / s^2``.

        Args:
            clean, noise: ``(M, T, c, h, w)``; the frame that is the condition counts like the others.
            level: ``(M,)``.
            mask: ``(M, T)``, frames that count; all of them when None.
        """
        noisy = clean + level.view(-1, 1, 1, 1, 1) * noise
        predicted = _clean(noisy, level, self._network(noisy, level, condition))
        weight = ((level**2 + 1) / level**2).view(-1, 1, 1, 1, 1)
        error = weight * (predicted.float() - clean.float()) ** 2
        if mask is None:
            return error.mean()
        return (error.mean(dim=(2, 3, 4)) * mask).sum() / mask.sum()

    @torch.no_grad()
    def predict_video(
        self,
        observation: Observation,
        generator: RowGenerator,
        actions: Tensor | None = None,
        steps: int = 30,
        guidance: float = 1.0,
    ) -> Tensor:
        """Predicted clip ``(B, V, T, 3, H, W)`` uint8 by Euler steps on the Karras schedule.

        Args:
            actions: Not used: this model is told what to do in words.
            guidance: Scale of the last frame; the scale rises linearly from 1 at the first frame, as in
                Stable Video Diffusion's pipeline. The paper names 7.5, the official script passes 3.
        """
        conditions = [self._condition(observation, self.options.sampling)]
        if guidance != 1:
            conditions.append(self._condition(observation, self.options.sampling, unconditional=True))
        scheduler = self.scheduler(steps)
        frames = self.options.frames
        scale = torch.linspace(1, guidance, frames, device=conditions[0].image.device).view(1, frames, 1, 1, 1)
        shape = (len(self.cameras), *self.latent_shape)
        noise = normal_noise((len(observation), *shape), conditions[0].image, generator)
        sample = noise.flatten(0, 1) * scheduler.init_noise_sigma
        for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
            level = sigma.to(sample).expand(len(sample))
            scaled = scheduler.scale_model_input(sample, timestep)
            outputs = [self._unet(scaled, level, condition) for condition in conditions]
            guided = outputs[0] if guidance == 1 else outputs[1] + scale * (outputs[0] - outputs[1])
            sample = scheduler.step(guided, timestep, sample, return_dict=False)[0]
        return to_bytes(self.decode(sample.unflatten(0, (len(observation), shape[0]))))

    def scheduler(self, steps: int) -> EulerDiscreteScheduler:
        """Stable Video Diffusion's scheduler with ``steps`` levels set."""
        from diffusers import EulerDiscreteScheduler

        scheduler = EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            timestep_type="continuous",
            timestep_spacing="leading",
            steps_offset=1,
            use_karras_sigmas=True,
            sigma_min=self.options.level_min,
            sigma_max=self.options.level_max,
        )
        scheduler.set_timesteps(steps)
        return scheduler


def micro_ids(numbers: MicroConditioning, like: Tensor) -> Tensor:
    """``(M, 3)`` for the M rows of ``like``."""
    values = (numbers.fps, numbers.motion_bucket, numbers.noise_augmentation)
    return like.new_tensor(values).expand(len(like), 3)


def sine_cosine(length: int, width: int) -> Tensor:
    """Positions ``(length, width)``, sines in the first half and cosines in the second, base 10000."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def _clean(noisy: Tensor, level: Tensor, output: Tensor) -> Tensor:
    """The clean estimate D from the network's output (EDM with unit data deviation, v-prediction)."""
    sigma = level.view(-1, 1, 1, 1, 1)
    return noisy / (sigma**2 + 1) - output * sigma / (sigma**2 + 1).sqrt()
