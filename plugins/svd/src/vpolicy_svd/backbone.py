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
    Clip,
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
    to_device,
)
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.parts.masks import masked_mean
from vpolicy_svd.augmentation import jitter
from vpolicy_svd.clips import ClipLayout
from vpolicy_svd.latents import SpaceToDepth, Vae
from vpolicy_svd.options import MicroConditioning, SvdOptions
from vpolicy_svd.unet import Pass, build_unet

if TYPE_CHECKING:
    from diffusers import EulerDiscreteScheduler


@dataclass
class SvdCondition:
    """What the network is conditioned on besides the noisy clip; M clips of L frames.

    Args:
        image: ``(M, L, c, h, w)`` or ``(M, 1, c, h, w)``, the latent of every frame's image without its scaling factor.
        text: ``(M, L', D)`` tokens, or ``(M, L, L', D)`` where frames have texts of their own.
        ids: ``(M, 3)``, frames a second, motion bucket, noise augmentation.
    """

    image: Tensor
    text: Tensor
    ids: Tensor


class SvdBackbone(VideoBackbone):
    """See `vpolicy_svd.options.SvdOptions` for the options and their sources.

    Views are the cameras of the spaces, in their order.
    """

    every_parameter_learns = True

    def __init__(self, options: SvdOptions, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self.cameras = tuple(camera.name for camera in spaces.cameras)
        self.clips = ClipLayout(len(self.cameras), options.frames, options.views == "concatenated", options.pad_frame)
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
    def predicted_cameras(self) -> tuple[str, ...]:
        return self.cameras

    @property
    def tap_specs(self) -> dict[str, FeatureLayout]:
        return self.options.taps()

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """``(V, T, c, h, w)`` of independent views, ``(L, c, h, w)`` of concatenated ones."""
        return *self.clips.leading, self.options.latent.latent_channels, *self.options.latent_grid

    @property
    def frame_axes(self) -> tuple[int, ...]:
        return self.clips.leading

    @property
    def highest_level(self) -> float:
        return self.options.level_max

    def encode(self, frames: Tensor) -> Tensor:
        return self._encode(frames, sample=False)

    def _encode(self, frames: Tensor, sample: bool) -> Tensor:
        clips = self.clips.of_views(frames)
        leading = clips.shape[:-3]
        return self.latent.encode(clips.flatten(0, -4), sample).unflatten(0, leading)

    def decode(self, latents: Tensor) -> Tensor:
        clips = self.clips.fold(latents)
        frames = self.latent.decode(clips.flatten(0, 1), self.clips.length).unflatten(0, clips.shape[:2])
        return self.clips.by_view(self.clips.unfold(frames))

    def text_tokens(self, sentences: list[str]) -> Tensor:
        """Tokens ``(B, L, D)`` as the cross-attention reads them (VPP's official ``encode_text``)."""
        encoded = self.text(sentences)
        tokens = encoded.pooled.unsqueeze(1) if self.options.text_tokens == "pooled" else encoded.tokens
        if self.options.position_encode:
            tokens = tokens + sine_cosine(tokens.shape[1], tokens.shape[2], tokens.device).to(tokens)
        return torch.cat([tokens, tokens], dim=-1) if self.options.double_text else tokens

    def condition(
        self, observation: Observation, unconditional: bool = False, generator: RowGenerator | None = None
    ) -> SvdCondition:
        return self._condition(observation, self.options.reading, unconditional, generator)

    def _condition(
        self,
        observation: Observation,
        numbers: MicroConditioning,
        unconditional: bool = False,
        generator: RowGenerator | None = None,
    ) -> SvdCondition:
        text = self.text_tokens(observation.instructions)
        text = torch.zeros_like(text) if unconditional else text
        if unconditional and self.options.unconditional_image == "zero":
            shape = (len(observation) * self.clips.clips, 1, *self.latent_shape[-3:])
            image = self.unet.conv_in.weight.new_zeros(shape)
        else:
            present = {name: observation.images[name][:, -1:] for name in self.cameras}
            views = stack_views(present, self.options.image_size).to(self.unet.conv_in.weight)
            image = self._condition_images(views[:, :, 0], generator)
        return SvdCondition(image, text.repeat_interleave(self.clips.clips, dim=0), micro_ids(numbers, image))

    def _condition_images(self, present: Tensor, generator: RowGenerator | None) -> Tensor:
        """Latents ``(M, L or 1, c, h, w)`` of what the frames are conditioned on, from ``(B, V, 3, H, W)``."""
        images = torch.cat([present, present[:, :1]], dim=1) if self.clips.pad else present
        if self.options.image_noise:
            noise = normal_noise(tuple(images.shape), images, generator)
            images = images + self.options.image_noise * noise
        latents = self.latent.condition(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return self.clips.spread(latents) if self.clips.concatenated else latents.flatten(0, 1).unsqueeze(1)

    def join(self, conditions: Sequence[SvdCondition]) -> SvdCondition:
        length = max(condition.image.shape[1] for condition in conditions)
        return SvdCondition(
            torch.cat([condition.image.expand(-1, length, -1, -1, -1) for condition in conditions]),
            torch.cat([condition.text for condition in conditions]),
            torch.cat([condition.ids for condition in conditions]),
        )

    def denoise(
        self, noisy: Tensor, level: Tensor, condition: SvdCondition, taps: Sequence[str] = (), predict: bool = True
    ) -> Denoised:
        """See `VideoBackbone.denoise`; independent views may have levels ``(B, V)`` of their own."""
        levels = level.to(noisy).view(len(noisy), -1).expand(-1, self.clips.clips).flatten()
        clips = self.clips.fold(noisy)
        scaled = clips / (levels**2 + 1).sqrt().view(-1, 1, 1, 1, 1)
        found = self._pass(scaled, levels, condition, taps, predict)
        output = found.prediction
        return Denoised(
            None if output is None else self.clips.unfold(_clean(clips, levels, output)),
            {tap: self._by_view(found.taps[tap]) for tap in taps},
            found.level.unflatten(0, (len(noisy), -1))[:, 0],
        )

    def _by_view(self, maps: Tensor) -> Tensor:
        """A feature map ``(M L, C, h, w)`` as ``(B, V, T, C, h, w)``."""
        return self.clips.by_view(self.clips.unfold(maps.unflatten(0, (-1, self.clips.length))))

    def embed_level(self, level: Tensor) -> Tensor:
        weight = self.unet.time_embedding.linear_1.weight
        return self.unet.time_embedding(self.unet.time_proj(level.to(weight).log() / 4).to(weight))

    def _pass(
        self, scaled: Tensor, level: Tensor, condition: SvdCondition, taps: Sequence[str] = (), predict: bool = True
    ) -> Pass:
        """The network on noisy clips ``(M, L, c, h, w)``, scaled to unit deviation, at levels ``(M,)``."""
        image = condition.image.expand(-1, scaled.shape[1], -1, -1, -1)
        inputs = torch.cat([scaled, image], dim=2)
        return self.unet(inputs, level.log() / 4, condition.text, condition.ids, tuple(taps), predict)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        clip = self.training_clip(batch)
        normal = torch.randn(
            len(batch) * self.clips.clips, device=clip.latents.device, dtype=clip.latents.dtype
        ).unflatten(0, (len(batch), -1))
        level = (self.options.level_deviation * normal + self.options.level_mean).exp()
        return {"video": self.diffusion_loss(clip, torch.randn_like(clip.latents), level)}

    def diffusion_loss(self, clip: Clip, noise: Tensor, level: Tensor) -> Tensor:
        """EDM loss of one noising at levels ``(B,)`` or ``(B, V)``; see `error`."""
        noisy = clip.latents + self._spread(level) * noise
        prediction = self.denoise(noisy, level, clip.condition).prediction
        assert prediction is not None, "a backbone predicts unless asked not to"
        return self.error(prediction, clip, level)

    def frame_latents(self, frames: Tensor) -> Tensor:
        """Single frames ``(N, 3, height, width)`` uint8 as the latents ``(N, c, h, w)`` of `training_clip`."""
        pixels = stack_views({"frame": frames.unsqueeze(1)}, self.options.image_size)[:, 0, 0]
        return self.latent.encode(pixels.to(self.unet.conv_in.weight), sample=True)

    def _training_frames(self, batch: Batch) -> Tensor:
        """The frames of training windows ``(B, V, T, 3, H, W)`` in [-1, 1]."""
        options, present = self.options, {n: batch.observation.images[n][:, -1:] for n in self.cameras}
        if options.stride:
            views = {name: torch.cat([present[name], batch.future[name]], dim=1) for name in self.cameras}
        else:
            views = {name: image.expand(-1, options.frames, -1, -1, -1) for name, image in present.items()}
        frames = stack_views(views, options.image_size).to(self.unet.conv_in.weight)
        return frames if options.color_jitter is None else jitter(frames, options.color_jitter)

    def training_clip(self, batch: Batch) -> Clip:
        """Clean latents, and what the network is conditioned on; a condition is dropped as the options say."""
        options, frames = self.options, None
        if batch.latents:
            views = torch.stack([batch.latents[name] for name in self.cameras], dim=1)
            clean = self.clips.of_views(views.to(self.unet.conv_in.weight)).contiguous()
        else:
            frames = self._training_frames(batch)
            # Noise like it is drawn in the order of its memory, which must not depend on how it was computed.
            clean = self._encode(frames, sample=True).contiguous()
        text = self.text_tokens(batch.observation.instructions).repeat_interleave(self.clips.clips, dim=0)
        if options.drop_per == "frame":
            text = text.unsqueeze(1).expand(-1, self.clips.length, -1, -1)
        kept = torch.rand(self._dropped(text), device=clean.device) > options.text_drop
        text = text * kept.view(*kept.shape, 1, 1)
        if frames is not None and (options.image_noise or self._own_condition_encoder):
            image = self._condition_images(frames[:, :, 0], None)
        else:
            image = self._first_latents(clean)
        if options.image_drop:
            image = image.expand(-1, self.clips.length, -1, -1, -1)
            shown = torch.rand(self._dropped(text), device=clean.device) > options.image_drop
            image = image * shown.view(len(image), -1, 1, 1, 1)
        condition = SvdCondition(image, text, micro_ids(options.training, image))
        mask = None
        if options.past_end == "mask" and batch.future_mask is not None:
            there = torch.cat([torch.ones_like(batch.future_mask[:, :1]), batch.future_mask], dim=1)
            mask = self.clips.of_views(there.unsqueeze(1).expand(-1, len(self.cameras), -1))
        return Clip(clean, condition, mask)

    @property
    def _own_condition_encoder(self) -> bool:
        return isinstance(self.latent, Vae) and self.latent.condition_vae is not None

    def _dropped(self, text: Tensor) -> tuple[int, ...]:
        """Shape of what is dropped or kept on its own: clips, or frames of clips."""
        return tuple(text.shape[:2]) if self.options.drop_per == "frame" else (len(text),)

    def _first_latents(self, clean: Tensor) -> Tensor:
        """What the frames are conditioned on ``(M, L or 1, c, h, w)``, from the clips' own latents."""
        first = self.clips.by_view(clean)[:, :, 0] / self.latent.scaling_factor
        if not self.clips.concatenated:
            return first.flatten(0, 1).unsqueeze(1)
        return self.clips.spread(torch.cat([first, first[:, :1]], dim=1) if self.clips.pad else first)

    def error(self, prediction: Tensor, clip: Clip, level: Tensor) -> Tensor:
        """EDM loss: squared error weighted by ``(s^2 + 1) / s^2``, which is that of the network's own output.

        The frames that the model is conditioned on count like the others; those that are masked do not.
        """
        scale = self._spread(level).float()
        error = (scale**2 + 1) / scale**2 * (prediction.float() - clip.latents.float()) ** 2
        if clip.mask is None:
            return error.mean()
        return masked_mean(error.mean(dim=(-3, -2, -1)), clip.mask)

    def _spread(self, level: Tensor) -> Tensor:
        """Levels ``(B,)`` or ``(B, V)``, shaped to multiply latents."""
        return level.view(*level.shape, *[1] * (1 + len(self.latent_shape) - level.ndim))

    @torch.no_grad()
    def predict_video(
        self,
        observation: Observation,
        generator: RowGenerator,
        actions: Tensor | None = None,
        steps: int = 30,
        guidance: float | None = None,
    ) -> Tensor:
        """Predicted clip ``(B, V, T, 3, H, W)`` uint8 by Euler steps on the Karras schedule.

        Args:
            actions: Not used: this model is conditioned on the instruction.
            guidance: Scale of the last frame, see `video_guidance` for the others; None: the option `guidance_scale`.
        """
        guidance = self.options.guidance_scale if guidance is None else guidance
        rows, frames = len(observation), self.clips.length
        condition = self._condition(observation, self.options.sampling, generator=generator)
        if guidance != 1:
            unconditional = self._condition(observation, self.options.sampling, True, generator)
            condition = self.join([unconditional, condition])
        scheduler = self.scheduler(steps)
        lowest = 1.0 if self.options.video_guidance == "linear" else guidance
        scale = torch.linspace(lowest, guidance, frames, device=condition.image.device).view(1, frames, 1, 1, 1)
        noise = normal_noise((rows, *self.latent_shape), condition.image, generator)
        sample = self.clips.fold(noise) * scheduler.init_noise_sigma
        copies = 1 if guidance == 1 else 2
        # The network's levels are brought to the device once; the scheduler's own stay single numbers on the processor,
        # which go along with the kernels that use them.
        levels = to_device(scheduler.sigmas[:-1], sample.device, sample.dtype)
        for timestep, level in zip(scheduler.timesteps, levels, strict=True):
            scaled = scheduler.scale_model_input(sample, timestep)
            of_rows = level.expand(copies * len(sample))
            output = self._pass(scaled.repeat(copies, 1, 1, 1, 1), of_rows, condition).prediction
            assert output is not None, "a network predicts unless asked not to"
            if guidance != 1:
                without, conditional = output.chunk(2)
                output = without + scale * (conditional - without)
            sample = scheduler.step(output, timestep, sample, return_dict=False)[0]
        return to_bytes(self.decode(self.clips.unfold(sample)))

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
    return torch.stack([like.new_full((len(like),), value) for value in values], dim=1)


def sine_cosine(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Positions ``(length, width)``, sines in the first half and cosines in the second, base 10000."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(width // 2, dtype=torch.float64, device=device) / (width / 2))
    angles = torch.arange(length, dtype=torch.float64, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def _clean(noisy: Tensor, level: Tensor, output: Tensor) -> Tensor:
    """The clean estimate D from the network's output (EDM with unit data deviation, v-prediction)."""
    sigma = level.view(-1, 1, 1, 1, 1)
    return noisy / (sigma**2 + 1) - output * sigma / (sigma**2 + 1).sqrt()
