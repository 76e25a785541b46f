"""The layers of diffusers' spatio-temporal UNet, computed with fewer passes over memory; the numbers are the same.

diffusers keeps feature maps as frames of channels of pixels, and rearranges them whenever the next layer looks along
another axis. Here the channels of a pixel stay side by side (``channels_last``) through the whole network. Pixels as
tokens, clips as images of frames times pixels, and sequences over time are then views of one and the same memory:

- A convolution over time ``(3, 1, 1)`` is a convolution ``(3, 1)`` over frames and pixels, for which there are fast
  kernels; the three-dimensional one has none on a processor.
- Attention over time takes pixels for further heads, and copies nothing.
- Attention onto a single text token is a constant, since a softmax over one key is 1: neither queries nor keys are
  needed. Only where nothing is learned, so that their weights still receive their gradient of zero.
- On a processor, transformer layers take a few frames, then a few pixels at a time, so that what lies between their
  matrix products stays in the cache and no memory has to be asked for.
- A blend of two tensors is one pass, and where nothing is learned sums are made in place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers.models.resnet import AlphaBlender, ResnetBlock2D, SpatioTemporalResBlock, TemporalResnetBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from diffusers import UNetSpatioTemporalConditionModel
    from diffusers.models.attention import BasicTransformerBlock, FeedForward, TemporalBasicTransformerBlock
    from diffusers.models.attention_processor import Attention

BLOCK_VALUES = 2**18
"""Values of a tensor (a megabyte of them in single precision) that transformer layers take at a time on a processor."""


def accelerate(unet: UNetSpatioTemporalConditionModel) -> None:
    """Let the layers of a network compute as this module does. Names, weights and hooks stay as they are."""
    for module in unet.modules():
        if type(module) is SpatioTemporalResBlock:
            module.__class__ = ResidualLayer
        elif type(module) is TransformerSpatioTemporalModel:
            module.__class__ = TransformerLayer
        elif isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)


class ResidualLayer(SpatioTemporalResBlock):
    """Convolutions over pixels, then over time."""

    def forward(self, hidden_states: Tensor, temb: Tensor, image_only_indicator: Tensor) -> Tensor:
        """``(B T, C, h, w)``, the embedding of the level ``(B T, E)``, and a tensor ``(B, T)`` for its shape."""
        embedding = functional.silu(temb)
        spatial = _over_pixels(self.spatial_res_block, hidden_states, embedding)
        return _blend(
            self.time_mixer, spatial, _over_time(self.temporal_res_block, spatial, embedding, image_only_indicator)
        )


def _over_pixels(block: ResnetBlock2D, maps: Tensor, embedding: Tensor) -> Tensor:
    hidden = block.conv1(_silu(block.norm1(maps)))
    hidden = _sum(hidden, block.time_emb_proj(embedding)[:, :, None, None])
    hidden = block.conv2(_silu(block.norm2(hidden)))
    return _sum(hidden, maps if block.conv_shortcut is None else block.conv_shortcut(maps))


def _over_time(block: TemporalResnetBlock, maps: Tensor, embedding: Tensor, frames: Tensor) -> Tensor:
    """Maps ``(B T, C, h, w)`` through the layers over time, as images ``(B, C, T, h w)``."""
    height, width = maps.shape[-2:]
    clips = maps.permute(0, 2, 3, 1).reshape(*frames.shape, height * width, -1).permute(0, 3, 1, 2)
    hidden = _time_convolution(block.conv1, _silu(block.norm1(clips)))
    steps = block.time_emb_proj(embedding).unflatten(0, tuple(frames.shape)).transpose(1, 2)
    hidden = _sum(hidden, steps.unsqueeze(-1))
    hidden = _time_convolution(block.conv2, _silu(block.norm2(hidden)))
    hidden = _sum(hidden, clips)
    return hidden.permute(0, 2, 3, 1).reshape(len(maps), height, width, -1).permute(0, 3, 1, 2)


def _time_convolution(convolution: nn.Conv3d, clips: Tensor) -> Tensor:
    """``(B, C, T, h w)`` convolved along T."""
    return functional.conv2d(clips, convolution.weight.squeeze(-1), convolution.bias, padding=(1, 0))


class TransformerLayer(TransformerSpatioTemporalModel):
    """Attention over pixels, then over time."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        image_only_indicator: Tensor,
        return_dict: bool = True,
    ) -> tuple[Tensor]:
        """``(B T, C, h, w)``, the text of every frame ``(B T, L, D)``, and a tensor ``(B, T)`` for its shape."""
        maps, frames = hidden_states, tuple(image_only_indicator.shape)
        height, width = maps.shape[-2:]
        tokens = self.proj_in(self.norm(maps).permute(0, 2, 3, 1).flatten(1, 2))
        text, clip_text = encoder_hidden_states, encoder_hidden_states.unflatten(0, frames)[:, 0]
        steps = self.time_proj(torch.arange(frames[1], device=maps.device)).to(tokens)
        positions = self.time_pos_embed(steps)[:, None]
        for block, time_block in zip(self.transformer_blocks, self.temporal_transformer_blocks, strict=True):
            tokens = _in_blocks(partial(_attend_pixels, block), (tokens, text), axis=0)
            over_time = partial(self._over_time, time_block, positions, clip_text)
            tokens = _in_blocks(over_time, (tokens.unflatten(0, frames),), axis=2).flatten(0, 1)
        found = self.proj_out(tokens).unflatten(1, (height, width)).permute(0, 3, 1, 2)
        return (_sum(found, maps),)

    def _over_time(
        self, block: TemporalBasicTransformerBlock, positions: Tensor, text: Tensor, tokens: Tensor
    ) -> Tensor:
        return _blend(self.time_mixer, tokens, _attend_time(block, tokens + positions, text))


def _attend_pixels(block: BasicTransformerBlock, tokens: Tensor, text: Tensor) -> Tensor:
    """Tokens ``(B T, h w, C)`` and the text of every frame ``(B T, L, D)``."""
    normal = block.norm1(tokens)
    tokens = _sum(_attention(block.attn1, normal, normal), tokens)
    tokens = _sum(tokens, _read(block.attn2, block.norm2, tokens, text))
    return _sum(_feed_forward(block.ff, block.norm3(tokens)), tokens)


def _attend_time(block: TemporalBasicTransformerBlock, tokens: Tensor, text: Tensor) -> Tensor:
    """Tokens ``(B, T, h w, C)`` and the text of every clip ``(B, L, D)``."""
    tokens = _sum(_feed_forward(block.ff_in, block.norm_in(tokens)), tokens)
    normal = block.norm1(tokens)
    heads, shape = block.attn1.heads * tokens.shape[2], tokens.shape
    query, key, value = (
        project(normal).view(*shape[:2], heads, -1).transpose(1, 2)
        for project in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v)
    )
    attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(shape)
    tokens = _sum(block.attn1.to_out[0](attended), tokens)
    read = _read(block.attn2, block.norm2, tokens.flatten(1, 2), text)
    tokens = _sum(tokens, read.unflatten(1, (-1, 1)) if read.shape[1] == 1 else read.view(shape))
    return _sum(_feed_forward(block.ff, block.norm3(tokens)), tokens)


def _read(attention: Attention, norm: nn.Module, tokens: Tensor, text: Tensor) -> Tensor:
    """What tokens ``(B, N, C)`` read out of a text ``(B, L, D)``; ``(B, 1, C)`` where it is the same for all."""
    if text.shape[1] == 1 and not torch.is_grad_enabled():
        return attention.to_out[0](attention.to_v(text))
    return _attention(attention, norm(tokens), text)


def _attention(attention: Attention, tokens: Tensor, source: Tensor) -> Tensor:
    """Tokens ``(B, N, C)`` attend to a source ``(B, M, D)``."""
    query, key, value = (
        project(given).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        for project, given in ((attention.to_q, tokens), (attention.to_k, source), (attention.to_v, source))
    )
    attended = functional.scaled_dot_product_attention(query, key, value)
    return attention.to_out[0](attended.transpose(1, 2).flatten(2))


def _feed_forward(layer: FeedForward, tokens: Tensor) -> Tensor:
    """A gated linear unit with GELU."""
    gated, _, out = layer.net
    hidden, gate = gated.proj(tokens).chunk(2, dim=-1)
    gate = functional.gelu(gate)
    return out(gate * hidden if torch.is_grad_enabled() else gate.mul_(hidden))


def _in_blocks(layer: Callable[..., Tensor], inputs: tuple[Tensor, ...], axis: int) -> Tensor:
    """Apply a layer to inputs of which it treats all entries along an axis alike: a few of them at a time where that
    keeps intermediate results in a processor's cache, otherwise all at once."""
    first = inputs[0]
    size = max(1, BLOCK_VALUES // (first.numel() // first.shape[axis]))
    whole = torch.is_grad_enabled() or first.device.type != "cpu" or torch.compiler.is_compiling()
    if whole or size >= first.shape[axis]:
        return layer(*inputs)
    blocks = zip(*(one.split(size, axis) for one in inputs), strict=True)
    return torch.cat([layer(*block) for block in blocks], axis)


def _silu(values: Tensor) -> Tensor:
    return functional.silu(values, inplace=not torch.is_grad_enabled())


def _sum(own: Tensor, other: Tensor) -> Tensor:
    """Their sum; ``own`` is used up where nothing is learned."""
    return own + other if torch.is_grad_enabled() else own.add_(other)


def _blend(mixer: AlphaBlender, spatial: Tensor, temporal: Tensor) -> Tensor:
    """The learned blend; diffusers' indicator of single images among the clips is always 0 here."""
    return torch.lerp(temporal, spatial, mixer.mix_factor.sigmoid().to(spatial.dtype))
