"""Features of a video model along the noise levels through which it and the actions are denoised."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from videopolicy import (
    Batch,
    Branch,
    Clip,
    Denoised,
    FeatureExtractor,
    FeatureLayout,
    FeatureStream,
    Observation,
    RecipeError,
    RowGenerator,
    Spaces,
    Window,
    normal_noise,
    to_device,
)
from vpolicy_video_policy.adapter import CnnAdapter
from vpolicy_video_policy.options import EveryStepOptions


class EveryStepExtractor(FeatureExtractor):
    """See `vpolicy_video_policy.options.EveryStepOptions` for the options and their sources."""

    def __init__(self, options: EveryStepOptions, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self._layout = options.layout(spaces)
        self.backbone = options.backbone.build(spaces)
        if options.frozen:
            self.backbone.requires_grad_(False).eval()
        views = len(spaces.cameras)
        self.adapter = CnnAdapter(options.adapter, views, options.channels, options.strides, options.step_embedding)
        self.every_parameter_learns = options.frozen or self.backbone.every_parameter_learns

    @property
    def window(self) -> Window:
        return self.options.window()

    @property
    def layout(self) -> FeatureLayout:
        return self._layout

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The adapter, and the video model at its own rate where it learns."""
        video = {
            "params": [parameter for parameter in self.backbone.parameters() if parameter.requires_grad],
            "lr_scale": self.options.video_learning_rate,
        }
        return [{"params": list(self.adapter.parameters())}, *([video] if video["params"] else [])]

    def train(self, mode: bool = True) -> EveryStepExtractor:
        super().train(mode)
        if self.options.frozen:
            self.backbone.eval()
        return self

    def stream(
        self, observation: Observation, batch: Batch | None = None, generator: RowGenerator | None = None
    ) -> FeatureStream:
        return DenoisingStream(self, observation, batch, generator)

    def tokens(self, denoised: Denoised) -> Tensor:
        """Tokens ``(B, N, D)`` of a forward of the video model."""
        return self.adapter([denoised.taps[tap] for tap in self.options.taps], denoised.step_embedding)


class DenoisingStream(FeatureStream):
    """The features of one batch.

    In training the clip, with its future, is noised at the asked levels. In use it is denoised from noise along the
    levels that are given, one forward at each.

    Args:
        extractor: Whose features.
        observation: Of what.
        batch: The training windows; None when acting.
        generator: Noise of the rows when acting.
    """

    def __init__(
        self,
        extractor: EveryStepExtractor,
        observation: Observation,
        batch: Batch | None,
        generator: RowGenerator | None,
    ) -> None:
        super().__init__(observation, extractor.layout)
        self.extractor, self.backbone, self.options = extractor, extractor.backbone, extractor.options
        self.batch, self.generator = batch, generator
        self.video_frames = math.prod(extractor.backbone.frame_axes)
        if batch is not None and batch.actions is not None:
            self.actions = batch.actions.shape[1]
        self._clip: Clip | None = None
        self._errors: list[Tensor] = []

    def at(self, level: Tensor) -> list[Branch]:
        """Features of the training clip, noised at these levels; the video loss on the way.

        Asked several times, as by a decoder that draws several levels, the video loss is the mean over all of them.
        """
        options, backbone = self.options, self.backbone
        with torch.no_grad() if options.frozen else nullcontext():
            clip = self._training_clip()
            video_level = level.clamp(min=options.lowest_level)
            noise = normal_noise(tuple(clip.latents.shape), clip.latents)
            noisy = clip.latents + video_level.to(noise).view(-1, *[1] * (noise.ndim - 1)) * noise
            denoised = backbone.denoise(noisy, video_level, clip.condition, options.taps, predict=not options.frozen)
            embedding = backbone.embed_level(level)
        if denoised.prediction is not None:
            self._errors.append(backbone.error(denoised.prediction, clip, video_level))
            self.losses["video"] = self.video_weight * torch.stack(self._errors).mean()
        if options.stop_gradient:
            denoised, embedding = detached(denoised), None if embedding is None else embedding.detach()
        return [Branch(1.0, self.extractor.tokens(denoised), embedding)]

    @property
    def video_weight(self) -> float:
        """Of the video loss: as the options say, or the share of the frames among frames and actions."""
        given = self.options.video_weight
        return self.video_frames / (self.video_frames + self.actions) if given is None else given

    def _training_clip(self) -> Clip:
        if self._clip is None:
            if self.batch is None:
                raise RecipeError(
                    "`every-step` has no features at a single level when it acts: it denoises the video from noise.",
                    "Use a decoder that samples along falling levels, such as action-unet or dit-diffusion.",
                )
            self._clip = self.backbone.training_clip(self.batch)
        return self._clip

    def descend(self, levels: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Branch]]]:
        """Features while the clip is denoised along the same levels in Euler steps, which nobody need decode."""
        rows, weights = len(self.observation), self._weights()
        condition = self._condition(guided=len(weights) > 1)
        # The same as `levels` until the lowest level of the video is reached, where it stays.
        video_levels = levels.clamp(min=self.options.lowest_level)
        values = video_levels.tolist()
        latents = normal_noise((rows, *self.backbone.latent_shape), next(self.backbone.parameters()), self.generator)
        latents = latents * (video_levels[0] ** 2 + 1).sqrt().to(latents.dtype)
        moved, video_moved = (to_device(one, latents.device) for one in (levels, video_levels))
        scales = [to_device(self._by_frame(first, last), latents.device, latents.dtype) for first, last in weights]
        tokens: tuple[Tensor, ...] = ()
        for step, (level, following) in enumerate(pairwise(levels)):
            if step == 0 or values[step] < values[step - 1]:
                here, there = video_levels[step], video_levels[step + 1]
                moves_on = step + 2 < len(values) and values[step + 1] < values[step]
                denoised = self.backbone.denoise(
                    latents.repeat(len(weights), *[1] * (latents.ndim - 1)),
                    video_moved[step].expand(len(weights) * rows),
                    condition,
                    self.options.taps,
                    predict=moves_on,
                )
                tokens = self.extractor.tokens(denoised).split(rows)
                if moves_on and denoised.prediction is not None:
                    predictions = denoised.prediction.split(rows)
                    clean = sum(scale.to(one) * one for scale, one in zip(scales, predictions, strict=True))
                    latents = clean + (there / here).to(latents.dtype) * (latents - clean)
            embedding = self.backbone.embed_level(moved[step].expand(rows))
            branches = [
                Branch(first, one, embedding, last_weight=None if first == last else last)
                for (first, last), one in zip(weights, tokens, strict=True)
            ]
            yield level, following, branches

    def _weights(self) -> list[tuple[float, float]]:
        """Of every branch its weight at the first and at the last frame of a clip, and of the actions alike."""
        last = self.options.guidance
        first = last if self.options.guidance_start is None else self.options.guidance_start
        return [(1.0, 1.0)] if first == last == 1 else [(1 - first, 1 - last), (first, last)]

    def _by_frame(self, first: float, last: float) -> Tensor:
        """Weights of a clip's frames, shaped to multiply latents ``(B, *latent_shape)``."""
        axes, shape = self.backbone.frame_axes, self.backbone.latent_shape
        return torch.linspace(first, last, axes[-1]).view(-1, *[1] * (len(shape) - len(axes)))

    def _condition(self, guided: bool) -> Any:
        """What the video model is conditioned on; behind the unconditional rows where there are any."""
        condition = self.backbone.condition(self.observation, generator=self.generator)
        if not guided:
            return condition
        unconditional = self.backbone.condition(self.observation, unconditional=True, generator=self.generator)
        return self.backbone.join([unconditional, condition])


def detached(denoised: Denoised) -> Denoised:
    """What the action loss may read and not change."""
    embedding = denoised.step_embedding
    return Denoised(
        None,
        {name: tap.detach() for name, tap in denoised.taps.items()},
        None if embedding is None else embedding.detach(),
    )
