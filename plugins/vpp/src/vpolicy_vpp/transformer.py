"""The transformer of the action decoder.

Parameter names follow the official ``policy_models/module/diffusion_decoder.py`` and
``transformers/transformer_blocks.py``, so that its checkpoints map one to one.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vpolicy_vpp.options import DitDiffusionOptions

Memory = list[tuple[Tensor, Tensor]]
"""Keys and values of the context for every decoder layer, each ``(B, heads, N, D / heads)``."""
Modulations = list[Tensor]
"""What a level makes of every decoder layer, each ``(B, 6 D)``."""


class Attention(nn.Module):
    """Multi-head attention with biased query, key and value and an unbiased projection.

    Args:
        options: Width, heads and dropout.
        causal: Row i attends to the columns up to i, also where there are more columns than rows.
    """

    def __init__(self, options: DitDiffusionOptions, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal, self.drop = options.heads, causal, options.dropout.attention
        self.key = nn.Linear(options.width, options.width)
        self.query = nn.Linear(options.width, options.width)
        self.value = nn.Linear(options.width, options.width)
        self.c_proj = nn.Linear(options.width, options.width, bias=False)
        self.resid_dropout = nn.Dropout(options.dropout.residual)

    def _split(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(self.key(source)), self._split(self.value(source))

    def forward(self, tokens: Tensor, memory: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """``(B, N, D)``; attends to itself, or to the keys and values of something else."""
        key, value = self.keys_values(tokens) if memory is None else memory
        drop = self.drop if self.training else 0.0
        query = self._split(self.query(tokens))
        attended = functional.scaled_dot_product_attention(query, key, value, dropout_p=drop, is_causal=self.causal)
        return self.resid_dropout(self.c_proj(attended.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """Two linear layers without biases around a GELU."""

    def __init__(self, options: DitDiffusionOptions) -> None:
        super().__init__()
        self.c_fc = nn.Linear(options.width, options.mlp_mult * options.width, bias=False)
        self.c_proj = nn.Linear(options.mlp_mult * options.width, options.width, bias=False)
        self.dropout = nn.Dropout(options.dropout.feed_forward)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.c_proj(functional.gelu(self.c_fc(tokens))))


class EncoderBlock(nn.Module):
    """Attention and feed-forward, each behind a layer norm without bias."""

    def __init__(self, options: DitDiffusionOptions) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(options.width, bias=False)
        self.attn = Attention(options, causal=False)
        self.ln_2 = nn.LayerNorm(options.width, bias=False)
        self.mlp = FeedForward(options)

    def forward(self, tokens: Tensor, read: int | None = None) -> Tensor:
        """``(B, N, D)`` to the first ``read`` tokens of it, all by default."""
        normed = self.ln_1(tokens)
        tokens = tokens[:, :read] + self.attn(normed[:, :read], self.attn.keys_values(normed))
        return tokens + self.mlp(self.ln_2(tokens))


class Modulation(nn.Module):
    """Shift, scale and gate of attention and feed-forward from the embedded level, ``(B, 6 D)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, level: Tensor) -> Tensor:
        return self.modulation(level)


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, the first and the last modulated by the level."""

    def __init__(self, options: DitDiffusionOptions) -> None:
        super().__init__()
        self.offset = 1.0 if options.adaptive_norm == "adaln-zero" else 0.0
        self.ln_1 = nn.LayerNorm(options.width, bias=False)
        self.attn = Attention(options, causal=options.causal_self_attention)
        self.cross_att = Attention(options, causal=options.causal_cross_attention)
        self.ln3 = nn.LayerNorm(options.width)
        self.ln_2 = nn.LayerNorm(options.width, bias=False)
        self.mlp = FeedForward(options)
        self.adaLN_zero = Modulation(options.width)

    def forward(self, actions: Tensor, modulation: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """Actions ``(B, H, D)``, their level's ``modulation`` ``(B or 1, 6 D)``, and keys and values of the context."""
        shift_att, scale_att, gate_att, shift_mlp, scale_mlp, gate_mlp = modulation.unsqueeze(1).chunk(6, dim=-1)
        actions = actions + gate_att * self.attn(shift_att + self.ln_1(actions) * (self.offset + scale_att))
        actions = actions + self.cross_att(self.ln3(actions), memory)
        return actions + gate_mlp * self.mlp(shift_mlp + self.ln_2(actions) * (self.offset + scale_mlp))


class Encoder(nn.Module):
    """Blocks and a final layer norm."""

    def __init__(self, options: DitDiffusionOptions) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(EncoderBlock(options) for _ in range(options.encoder_layers))
        self.ln = nn.LayerNorm(options.width, bias=False)

    def forward(self, tokens: Tensor, read: int | None = None) -> Tensor:
        """``(B, N, D)`` to the first ``read`` encoded tokens, all by default."""
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, read if number == last else None)
        return self.ln(tokens[:, :read])


class Decoder(nn.Module):
    """Blocks that read a remembered context, and a final layer norm."""

    def __init__(self, options: DitDiffusionOptions) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DecoderBlock(options) for _ in range(options.decoder_layers))
        self.ln = nn.LayerNorm(options.width, bias=False)

    def remember(self, context: Tensor) -> Memory:
        return [cast(DecoderBlock, block).cross_att.keys_values(context) for block in self.blocks]

    def modulations(self, level: Tensor) -> Modulations:
        """Embedded levels ``(B, D)`` to what modulates every block."""
        return [cast(DecoderBlock, block).adaLN_zero(level) for block in self.blocks]

    def forward(self, actions: Tensor, modulations: Modulations, memory: Memory) -> Tensor:
        for block, modulation, read in zip(self.blocks, modulations, memory, strict=True):
            actions = block(actions, modulation, read)
        return self.ln(actions)


class SinusoidalEmbedding(nn.Module):
    """``(B,)`` to ``(B, width)``: sines, then cosines, of geometric frequencies from 1 to 1e-4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequencies = width // 2

    def forward(self, values: Tensor) -> Tensor:
        spacing = math.log(10000) / max(self.frequencies - 1, 1)
        exponents = torch.arange(self.frequencies, device=values.device) * -spacing
        angles = values[:, None] * exponents.exp()
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _zero(linear: nn.Linear) -> None:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)


def _mlp(inputs: int, width: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 2 * width), activation, nn.Linear(2 * width, width))


class DiffusionTransformer(nn.Module):
    """The inner network: preconditioned noisy actions, a level and a context to F.

    The context depends neither on the level nor on the actions, so `remember` runs once for all denoising
    steps; the official code repeats it at every step, with the same result.

    Args:
        options: Shape.
        token_dim, goal_dim, action_dim, state_dim: Widths of what comes in; no state token when 0.
    """

    def __init__(
        self, options: DitDiffusionOptions, token_dim: int, goal_dim: int, action_dim: int, state_dim: int
    ) -> None:
        super().__init__()
        width = options.width
        self.tok_emb = nn.Linear(token_dim, width)
        self.lang_emb = _mlp(goal_dim, width, nn.GELU())
        self.proprio_emb = _mlp(state_dim, width, nn.Mish()) if state_dim else None
        self.drop = nn.Dropout(options.dropout.embedding)
        self.encoder = Encoder(options)
        self.decoder = Decoder(options)
        self.sigma_emb = nn.Sequential(SinusoidalEmbedding(width), *_mlp(width, width, nn.Mish()))
        self.action_emb = nn.Linear(action_dim, width)
        self.action_positions = nn.Parameter(torch.zeros(options.horizon, width)) if options.action_positions else None
        self.action_pred = nn.Linear(width, action_dim)
        self._initialise(options.initial_deviation, zero=options.adaptive_norm == "adaln-zero")

    def _initialise(self, deviation: float | None, zero: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear) and deviation is not None:
                nn.init.normal_(module.weight, std=deviation)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.action_positions is not None:
            nn.init.normal_(self.action_positions, std=0.02)
        if zero:
            for module in self.modules():
                if isinstance(module, Modulation):
                    _zero(cast(nn.Linear, module.modulation[1]))
            _zero(self.action_pred)

    def context(self, tokens: Tensor, goal: Tensor, state: Tensor | None, read: int | None = None) -> Tensor:
        """Goal ``(B, P)``, tokens ``(B, N, C)`` and state ``(B, S)`` to the encoded context ``(B, 1 + N (+ 1), D)``.

        Args:
            read: Only so many tokens of the result are wanted, from the first on.
        """
        parts = [self.lang_emb(goal).unsqueeze(1), self.tok_emb(tokens)]
        if self.proprio_emb is not None and state is not None:
            parts.append(self.proprio_emb(state).unsqueeze(1))
        return self.encoder(self.drop(torch.cat(parts, dim=1)), read)

    def remember(self, context: Tensor) -> Memory:
        return self.decoder.remember(context)

    def modulations(self, level: Tensor) -> Modulations:
        """Levels ``(B,)`` to what modulates every decoder layer; those of a whole descent may be computed at once."""
        return self.decoder.modulations(self.sigma_emb(level.log() / 4))

    def forward(self, actions: Tensor, modulations: Modulations, memory: Memory) -> Tensor:
        """Actions ``(B, H, A)``, the modulations of their levels and the remembered context to F ``(B, H, A)``."""
        hidden = self.action_emb(actions)
        if self.action_positions is not None:
            hidden = hidden + self.action_positions
        return self.action_pred(self.decoder(self.drop(hidden), modulations, memory))
