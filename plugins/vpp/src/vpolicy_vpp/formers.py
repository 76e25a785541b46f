"""Formers: from the features of all frames to the tokens that a decoder reads.

Parameter names follow the official ``policy_models/module/Video_Former.py``, so that its checkpoints map
one to one.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vpolicy_vpp.maps import FeatureMaps
from vpolicy_vpp.options import Linear, VideoFormer, VideoFormer2D


class PerceiverAttention(nn.Module):
    """Latents of a frame read the frame's tokens and each other; heads of ``dim_head``, no biases."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * dim_head
        self.norm_media = nn.LayerNorm(dim)
        self.norm_latents = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(dim, inner, bias=False)
        self.to_v = nn.Linear(dim, inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, media: Tensor, latents: Tensor) -> Tensor:
        """``(M, N, D)`` and ``(M, L, D)`` to ``(M, L, D)``."""
        latents = self.norm_latents(latents)
        source = torch.cat([self.norm_media(media), latents], dim=1)
        query = self._split(self.to_q(latents))
        if latents.shape[1] < query.shape[-1]:
            return self.to_out(self._absorbed(query, source).transpose(1, 2).flatten(2))
        key, value = self._split(self.to_k(source)), self._split(self.to_v(source))
        return self.to_out(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))

    def _split(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _absorbed(self, query: Tensor, source: Tensor) -> Tensor:
        """The same sums in another order: ``(M, heads, L, D / heads)`` read ``(M, N, D)`` itself.

        Queries go through the transposed projection of the keys, and what was read through that of the values. Where
        there are fewer latents than ``dim_head``, that takes fewer operations than projecting every token twice.
        """
        to_key, to_value = (layer.weight.unflatten(0, (self.heads, -1)) for layer in (self.to_k, self.to_v))
        asking = (query @ to_key).flatten(1, 2).unsqueeze(1)
        shared = source.unsqueeze(1)
        scale = query.shape[-1] ** -0.5
        read = functional.scaled_dot_product_attention(asking, shared, shared, scale=scale)
        return read.squeeze(1).unflatten(1, (self.heads, -1)) @ to_value.transpose(1, 2)


class TemporalAttention(nn.Module):
    """Full attention over the frames, without a norm before it, as in the official code.

    The official code passes a mask of ones as floats, which adds a constant and so masks nothing.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(M, T, D)`` to ``(M, T, D)``."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


def feed_forward(dim: int, mult: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, mult * dim, bias=False), nn.GELU(), nn.Linear(mult * dim, dim, bias=False)
    )


class FormerLayer(nn.ModuleList):
    """Attention on the frame, attention over time where there is any, feed-forward."""

    def forward(self, media: Tensor, latents: Tensor, frames: int) -> Tensor:
        """Media ``(B T, N, D)`` and latents ``(B T, L, D)`` to ``(B T, L, D)``."""
        latents = latents + self[0](media, latents)
        if len(self) == 3:
            over_time = latents.unflatten(0, (-1, frames)).transpose(1, 2)
            over_time = over_time + self[1](over_time.flatten(0, 1)).unflatten(0, over_time.shape[:2])
            latents = over_time.transpose(1, 2).flatten(0, 1)
        return latents + self[-1](latents)


class ChannelNorm(nn.BatchNorm1d):
    """Batch normalisation of the last axis, without learned scale; in evaluation a row depends on itself only."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.flatten(0, -2)).view_as(features)


def _input_norm(name: str, channels: int) -> nn.Module:
    if name == "layer":
        return nn.LayerNorm(channels)
    return ChannelNorm(channels) if name == "batch" else nn.Identity()


class VideoFormerModule(nn.Module):
    """Section 4.2: features ``(B, T, N, C)`` to tokens ``(B, T * latents, D)``, frame by frame.

    Args:
        options: Shape; `VideoFormer2D` leaves out the attention over time.
        channels: C.
        frames: T.
    """

    def __init__(self, options: VideoFormer, channels: int, frames: int) -> None:
        super().__init__()
        dim = options.dim
        self.input_norm = _input_norm(options.input_norm, channels)
        self.goal_emb = nn.Sequential(nn.Linear(channels, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.time_pos_emb = nn.Parameter(options.time_position_scale * torch.randn(frames, 1, dim))
        self.latents = nn.Parameter(torch.randn(frames, options.latents_per_frame, dim))
        self.layers = nn.ModuleList()
        for _ in range(options.depth):
            layer: list[nn.Module] = [PerceiverAttention(dim, options.heads, options.dim_head)]
            if not isinstance(options, VideoFormer2D):
                layer.append(TemporalAttention(dim, options.heads))
            self.layers.append(FormerLayer([*layer, feed_forward(dim, options.ff_mult)]))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        return self._read(self.goal_emb(self.input_norm(features)))

    def of_maps(self, maps: FeatureMaps) -> Tensor:
        """The same for feature maps that have not been brought to one grid: the first linear layer comes before that.

        It maps every token by itself and so commutes with resizing; smaller maps have fewer tokens.
        """
        if not isinstance(self.input_norm, nn.Identity):
            return self(maps.joined())
        first = cast(nn.Linear, self.goal_emb[0])
        weights = first.weight.split([one.shape[3] for one in maps.maps], dim=1)
        # Channels stay last in memory, as the tokens that come of them need it.
        mapped = [
            torch.einsum("bvtchw,dc->bvthwd", one, weight).movedim(-1, 3)
            for one, weight in zip(maps.maps, weights, strict=True)
        ]
        tokens = maps.of(mapped).summed() + first.bias
        return self._read(self.goal_emb[1:](tokens))

    def _read(self, embedded: Tensor) -> Tensor:
        batch, frames = embedded.shape[:2]
        media = (embedded + self.time_pos_emb).flatten(0, 1)
        latents = self.latents.expand(batch, -1, -1, -1).flatten(0, 1)
        for layer in self.layers:
            latents = layer(media, latents, frames)
        return self.norm(latents.unflatten(0, (batch, frames)).flatten(1, 2))


class LinearFormer(nn.Module):
    """Every token by itself: ``(B, T, N, C)`` to ``(B, T * N, D)``."""

    def __init__(self, options: Linear, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, options.dim)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features).flatten(1, 2)

    def of_maps(self, maps: FeatureMaps) -> Tensor:
        """The same for feature maps that have not been brought to one grid."""
        return self(maps.joined())


def build_former(options: VideoFormer | Linear, channels: int, frames: int) -> VideoFormerModule | LinearFormer:
    if isinstance(options, Linear):
        return LinearFormer(options, channels)
    return VideoFormerModule(options, channels, frames)
