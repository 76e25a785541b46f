"""A video model of convolutions that are causal in time, conditioned on the current frame."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from videopolicy import BackboneComponent, Clip, Denoised, FeatureLayout, VideoBackbone, Window, stack_views
from videopolicy.parts.requirements import missing_cameras

DATA = 0.5  # standard deviation of pictures in [-1, 1]


class CausalConv(nn.Conv3d):
    """Frame t sees frames t - 2 to t."""

    def __init__(self, inward, outward):
        super().__init__(inward, outward, 3, padding=(0, 1, 1))

    def forward(self, clips):
        return super().forward(functional.pad(clips, (0, 0, 0, 0, 2, 0)))


class CausalModel(VideoBackbone):
    """Denoises small pictures as they are; every camera is a clip of its own."""

    window = tap_specs = None  # set below; the contract declares them as properties
    highest_level = 20.0  # sigma: clean frames plus so many times unit noise are as good as noise

    def __init__(self, window, taps, views, side, width):
        super().__init__()
        self.window, self.tap_specs, self.views, self.size = window, taps, views, (side, side)
        self.first = CausalConv(3 + 3 + 1, width)  # noisy frame, current frame, level
        self.second = CausalConv(width, width)
        self.last = nn.Conv3d(width, 3, 1)

    @property
    def latent_shape(self):
        return (self.views, 1 + len(self.window.future), 3, *self.size)

    @property
    def frame_axes(self):
        return self.latent_shape[:2]

    def encode(self, frames):
        return frames  # a model in a latent space has its autoencoder here

    def decode(self, latents):
        return latents

    def condition(self, observation, unconditional=False, generator=None):
        current = stack_views(observation.images, self.size)[:, :, -1:]  # (B, V, 1, 3, H, W)
        return torch.zeros_like(current) if unconditional else current

    def join(self, conditions):
        return torch.cat(list(conditions))

    def denoise(self, noisy, level, condition, taps=(), predict=True):
        sigma = level.view(-1, 1, 1, 1, 1, 1)
        scaled = noisy / (DATA**2 + sigma**2).sqrt()  # Karras et al. 2022: unit variance in
        channels = [scaled, condition.expand_as(noisy), (sigma.log() / 4).expand_as(noisy[:, :, :, :1])]
        clips = torch.cat(channels, 3).flatten(0, 1).movedim(2, 1)  # (B V, C, T, H, W)
        early = functional.silu(self.first(clips))
        late = functional.silu(self.second(early)) + early
        maps, views = {"early": early, "late": late}, noisy.shape[:2]
        found = {name: maps[name].movedim(1, 2).unflatten(0, views) for name in taps}  # (B, V, T, C, H, W)
        if not predict:
            return Denoised(None, found)  # only features are read
        change = self.last(late).movedim(1, 2).unflatten(0, views)
        kept = DATA**2 / (DATA**2 + sigma**2)
        return Denoised(kept * noisy + DATA * sigma / (DATA**2 + sigma**2).sqrt() * change, found)

    def training_clip(self, batch):
        frames = {name: torch.cat([now, batch.future[name]], 1) for name, now in batch.observation.images.items()}
        condition = self.condition(batch.observation)
        shown = torch.rand(len(batch), device=condition.device) > 0.1  # else guidance has no unconditional branch
        return Clip(self.encode(stack_views(frames, self.size)), condition * shown.view(-1, 1, 1, 1, 1, 1))

    def error(self, prediction, clip, level):
        weight = (DATA**2 + level**2) / (DATA * level) ** 2
        return (weight * (prediction - clip.latents).square().flatten(1).mean(1)).mean()

    def loss(self, batch):
        clip = self.training_clip(batch)
        level = torch.exp(1.2 * torch.randn(len(batch), device=clip.latents.device) - 0.5)
        noisy = clip.latents + level.view(-1, 1, 1, 1, 1, 1) * torch.randn_like(clip.latents)
        return {"video": self.error(self.denoise(noisy, level, clip.condition).prediction, clip, level)}


class CausalVideo(BackboneComponent):
    """Convolutions that are causal in time.

    Args:
        image_size: Side in pixels of the square frames.
        frames: Of a clip, the current one included.
        stride: Environment steps between frames.
        width: Channels of the hidden maps.
    """

    type: Literal["causal-video"] = "causal-video"
    image_size: int = 16
    frames: int = 4
    stride: int = 2
    width: int = 32

    def window(self):
        return Window(future=tuple(self.stride * frame for frame in range(1, self.frames)))

    def taps(self):
        axes = (("frames", self.frames), ("height", self.image_size), ("width", self.image_size))
        return {name: FeatureLayout(self.width, axes) for name in ("early", "late")}

    def check(self, spaces):
        return missing_cameras(self.type, spaces)

    def build(self, spaces):
        return CausalModel(self.window(), self.taps(), len(spaces.cameras), self.image_size, self.width)
