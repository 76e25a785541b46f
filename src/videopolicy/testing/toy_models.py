"""The networks behind `videopolicy.testing.toys`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from videopolicy.contracts.backbone import Clip, Denoised, VideoBackbone
from videopolicy.contracts.decoder import ActionDecoder
from videopolicy.contracts.extractor import FeatureExtractor, FeatureStream, StaticStream
from videopolicy.contracts.policy import Policy
from videopolicy.parts import levels
from videopolicy.parts.masks import masked_mean, without_masked
from videopolicy.types import (
    Batch,
    Branch,
    FeatureLayout,
    Observation,
    RowGenerator,
    Window,
    normal_noise,
    weighted_sum,
)
from videopolicy.views import stack_views


class ToyVideoModel(VideoBackbone):
    """Denoises small pictures, conditioned on the first one."""

    highest_level = 10.0

    def __init__(self, window: Window, taps: dict[str, FeatureLayout], size: int, views: int) -> None:
        super().__init__()
        self._window, self._taps, self.size, self.views = window, taps, size, views
        width = taps["hidden"].dim
        self.inward = nn.Conv3d(3 + 3 + 1, width, 3, padding=1)
        self.outward = nn.Conv3d(width, 3, 1)

    @property
    def window(self) -> Window:
        return self._window

    @property
    def tap_specs(self) -> dict[str, FeatureLayout]:
        return self._taps

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.views, len(self.window.observed) + len(self.window.future), 3, self.size, self.size)

    @property
    def frame_axes(self) -> tuple[int, ...]:
        return self.latent_shape[:2]

    def encode(self, frames: Tensor) -> Tensor:
        small = functional.adaptive_avg_pool2d(frames.flatten(0, 2), self.size)
        return small.unflatten(0, frames.shape[:3])

    def decode(self, latents: Tensor) -> Tensor:
        large = functional.interpolate(latents.flatten(0, 2), scale_factor=2.0)
        return large.unflatten(0, latents.shape[:3])

    def condition(
        self, observation: Observation, unconditional: bool = False, generator: RowGenerator | None = None
    ) -> Tensor:
        first = self.encode(stack_views(observation.images, (2 * self.size, 2 * self.size)))[:, :, -1:]
        return torch.zeros_like(first) if unconditional else first

    def join(self, conditions: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(conditions))

    def denoise(
        self, noisy: Tensor, level: Tensor, condition: Tensor, taps: Sequence[str] = (), predict: bool = True
    ) -> Denoised:
        level = level.view(-1, 1, 1, 1, 1, 1)
        channels = [noisy / (1 + level**2).sqrt(), condition.expand_as(noisy)]
        channels.append((level.log() / 4).expand_as(noisy[:, :, :, :1]))
        clips = torch.cat(channels, dim=3).flatten(0, 1).movedim(2, 1)
        hidden = functional.silu(self.inward(clips))
        views = noisy.shape[:2]
        return Denoised(
            self.outward(hidden).movedim(1, 2).unflatten(0, views) if predict else None,
            {name: hidden.movedim(1, 2).unflatten(0, views) for name in taps},
        )

    def training_clip(self, batch: Batch) -> Clip:
        frames = {name: torch.cat([now, batch.future[name]], 1) for name, now in batch.observation.images.items()}
        clean = self.encode(stack_views(frames, (2 * self.size, 2 * self.size)))
        return Clip(clean, self.condition(batch.observation))

    def error(self, prediction: Tensor, clip: Clip, level: Tensor) -> Tensor:
        return functional.mse_loss(prediction, clip.latents)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        clip = self.training_clip(batch)
        level = torch.exp(torch.randn(len(batch)))
        noisy = clip.latents + level.view(-1, 1, 1, 1, 1, 1) * torch.randn_like(clip.latents)
        prediction = self.denoise(noisy, level, clip.condition).prediction
        assert prediction is not None
        return {"video": self.error(prediction, clip, level)}


class ToyPictures(FeatureExtractor):
    """Every cell of every picture through one linear map."""

    window = Window()

    def __init__(self, layout: FeatureLayout, cells: int) -> None:
        super().__init__()
        self._layout, self.cells = layout, cells
        self.project = nn.Linear(3, layout.dim)

    @property
    def layout(self) -> FeatureLayout:
        return self._layout

    def stream(
        self,
        observation: Observation,
        batch: Batch | None = None,
        generator: RowGenerator | None = None,
    ) -> FeatureStream:
        views = stack_views(observation.images, (self.cells, self.cells))[:, :, -1]
        tokens = self.project(views.movedim(2, -1).flatten(1, 3))
        return StaticStream(observation, self.layout, [Branch(1.0, tokens)])


class ToyVideoFeatures(FeatureExtractor):
    """A frozen video model, asked once."""

    def __init__(self, backbone: VideoBackbone, window: Window, layout: FeatureLayout, taps: Sequence[str]) -> None:
        super().__init__()
        self._window, self._layout, self.taps = window, layout, taps
        self.backbone = backbone.requires_grad_(False)

    @property
    def window(self) -> Window:
        return self._window

    @property
    def layout(self) -> FeatureLayout:
        return self._layout

    @torch.no_grad()
    def stream(
        self,
        observation: Observation,
        batch: Batch | None = None,
        generator: RowGenerator | None = None,
    ) -> FeatureStream:
        model, rows = self.backbone, len(observation)
        like = next(model.parameters())
        noise = model.highest_level * normal_noise((rows, *model.latent_shape), like, generator)
        condition = model.condition(observation, generator=generator)
        found = model.denoise(noise, like.new_full((rows,), model.highest_level), condition, self.taps, predict=False)
        tokens = torch.cat([found.taps[name].mean((2, 4, 5)) for name in self.taps], -1)
        return StaticStream(observation, self.layout, [Branch(1.0, tokens)])


class ToyActions(ActionDecoder):
    """Predicts clean actions from noisy ones and all tokens, and walks down the levels."""

    def __init__(self, layout: FeatureLayout, action_dim: int, horizon: int, width: int, steps: int) -> None:
        super().__init__()
        self.shape, self.steps = (horizon, action_dim), steps
        size = horizon * action_dim
        self.tokens = nn.Linear(layout.tokens * layout.dim, width)
        self.actions = nn.Linear(size + 1, width)
        self.out = nn.Linear(width, size)

    def _predict(self, noisy: Tensor, level: Tensor, branches: list[Branch]) -> Tensor:
        scaled = noisy.flatten(1) / (1 + level[:, None] ** 2).sqrt()
        embedded = self.actions(torch.cat([scaled, torch.log1p(level)[:, None]], 1))
        clean = [self.out(torch.relu(embedded + self.tokens(branch.tokens.flatten(1)))) for branch in branches]
        return weighted_sum(branches, [one.unflatten(1, self.shape) for one in clean])

    def loss(self, stream: FeatureStream, actions: Tensor, mask: Tensor) -> Tensor:
        level = torch.exp(torch.randn(len(actions), device=actions.device))
        actions = without_masked(actions, mask)
        noisy = actions + level[:, None, None] * torch.randn_like(actions)
        error = (self._predict(noisy, level, stream.at(level)) - actions).square().mean(-1)
        return masked_mean(error, mask)

    def sample(self, stream: FeatureStream, generator: RowGenerator) -> Tensor:
        actions = normal_noise((len(generator), *self.shape), self.out.weight, generator)
        falling = levels.exponential(self.steps, 0.1, 3.0).to(actions)
        actions = actions * falling[0]
        for level, following, branches in stream.descend(falling):
            clean = self._predict(actions, level.expand(len(actions)), branches)
            actions = clean + (following / level) * (actions - clean)
        return actions


class ToyReflex(Policy):
    """Mean colour of every view to actions."""

    def __init__(self, window: Window, views: int, action_dim: int) -> None:
        super().__init__()
        self._window = window
        self.linear = nn.Linear(3 * views, window.horizon * action_dim)

    @property
    def window(self) -> Window:
        return self._window

    def _actions(self, observation: Observation) -> Tensor:
        colours = torch.cat([view[:, -1].float().mean((2, 3)) / 255 for view in observation.images.values()], 1)
        return self.linear(colours).unflatten(1, (self.window.horizon, -1))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.actions is not None and batch.action_mask is not None
        error = (self._actions(batch.observation) - batch.actions).square().mean(-1)
        return {"action": masked_mean(error, batch.action_mask)}

    @torch.no_grad()
    def act(self, observation: Observation, generator: RowGenerator) -> Tensor:
        actions = self._actions(observation)
        return actions + 0.01 * normal_noise(tuple(actions.shape), actions, generator)
