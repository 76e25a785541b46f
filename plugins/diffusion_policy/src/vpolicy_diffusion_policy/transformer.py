"""Diffusion Policy's transformer: noisy actions attend to timestep and features.

Parameter names follow the official ``TransformerForDiffusion``, so that its weights map one to one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vpolicy_diffusion_policy.options import TransformerDiffusionOptions
from vpolicy_diffusion_policy.sinusoid import sinusoid


class ConditionalTransformer(nn.Module):
    """See `vpolicy_diffusion_policy.options.TransformerDiffusionOptions` for the options.

    Args:
        options: Of the decoder.
        actions: A.
        token: Width of the tokens, the instruction's vector behind them included.
        tokens: N.
    """

    def __init__(self, options: TransformerDiffusionOptions, actions: int, token: int, tokens: int) -> None:
        super().__init__()
        self.options, width = options, options.width
        self.input_emb = nn.Linear(actions, width)
        self.pos_emb = nn.Parameter(torch.zeros(1, options.horizon, width))
        self.drop = nn.Dropout(options.dropout_embedding)
        self.cond_obs_emb = nn.Linear(token, width)
        self.cond_pos_emb = nn.Parameter(torch.zeros(1, 1 + tokens, width))
        shape: dict[str, Any] = {
            "d_model": width,
            "nhead": options.heads,
            "dim_feedforward": 4 * width,
            "dropout": options.dropout_attention,
            "activation": "gelu",
            "batch_first": True,
            "norm_first": True,
        }
        self.encoder: nn.Module
        if options.condition_layers:
            layer = nn.TransformerEncoderLayer(**shape)
            # Nested tensors are for padding, of which there is none, and not for norm_first, of which they warn.
            self.encoder = nn.TransformerEncoder(layer, options.condition_layers, enable_nested_tensor=False)
        else:
            self.encoder = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**shape), options.layers)
        self.ln_f = nn.LayerNorm(width)
        self.head = nn.Linear(width, actions)
        self._initialise()

    def _initialise(self) -> None:
        deviation = self.options.initial_deviation
        for positions in (self.pos_emb, self.cond_pos_emb):
            nn.init.normal_(positions, std=deviation or 0.02)
        if deviation is None:
            # The layers of a stack are copies of one; each begins with weights of its own, as anywhere else in torch.
            for module in self.modules():
                if isinstance(module, nn.MultiheadAttention):
                    module._reset_parameters()
                elif isinstance(module, nn.Linear):
                    module.reset_parameters()
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=deviation)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.MultiheadAttention):
                nn.init.normal_(module.in_proj_weight, std=deviation)
                nn.init.zeros_(module.in_proj_bias)

    def forward(self, chunk: Tensor, timestep: Tensor, tokens: Tensor, text: Tensor | None) -> Tensor:
        """The prediction ``(B, H, A)``.

        Args:
            chunk: ``(B, H, A)`` noisy actions.
            timestep: ``(B,)``.
            tokens: ``(B, N, D)``.
            text: ``(B, P)``, appended to every token.
        """
        if text is not None:
            tokens = torch.cat([tokens, text.unsqueeze(1).expand(-1, tokens.shape[1], -1)], dim=-1)
        time = sinusoid(timestep, self.options.width).to(chunk).unsqueeze(1)
        condition = torch.cat([time, self.cond_obs_emb(tokens)], dim=1) + self.cond_pos_emb
        memory = self.encoder(self.drop(condition))
        hidden = self.drop(self.input_emb(chunk) + self.pos_emb)
        hidden = self.decoder(hidden, memory, *self._masks(hidden.shape[1], memory.shape[1], chunk.device))
        return self.head(self.ln_f(hidden))

    def _masks(self, actions: int, memory: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """What attention must not see: of the actions ``(H, H)`` and of the memory ``(H, 1 + N)``."""
        later = torch.ones(actions, max(actions, memory), dtype=torch.bool, device=device)
        among = later[:, :actions].triu(1) if self.options.causal else None
        # The timestep stands first: action i sees the memory up to i + 1.
        return among, later[:, :memory].triu(2) if self.options.causal_cross_attention else None
