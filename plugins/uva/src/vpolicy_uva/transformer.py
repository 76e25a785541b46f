"""The masked transformer: everything that is known about video and actions becomes one joint latent
(section III-A and III-B; ``mar_con_unified.py``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videopolicy import MeasuredPart
from vpolicy_uva.joint_options import UvaJointOptions


@dataclass
class Conditioning:
    """What the transformer is conditioned on; True hides.

    Args:
        history: ``(B, V, T, S, c)`` latents of all views that are seen, tokens of a frame in rows. Concatenated views
            are one view of as many times as many frames T, here and below.
        history_hidden: ``(B,)``.
        future: ``(B, W, T, S, c)`` latents of the predicted views, or None where all of them are hidden.
        future_hidden: ``(B, S)``, the same cells in all frames.
        actions: ``(B, H, A)`` or None where all of them are hidden.
        actions_hidden: ``(B, H)``.
        past_actions: ``(B, P, A)``, where the model has any.
        past_hidden: ``(B, P)``.
        state: ``(B, K, S)`` where the model has any: K states one behind the other over all cells.
        text: ``(B, E)``, where the model has any.
        text_hidden: ``(B,)``.
    """

    history: Tensor
    history_hidden: Tensor
    future: Tensor | None = None
    future_hidden: Tensor | None = None
    actions: Tensor | None = None
    actions_hidden: Tensor | None = None
    past_actions: Tensor | None = None
    past_hidden: Tensor | None = None
    state: Tensor | None = None
    text: Tensor | None = None
    text_hidden: Tensor | None = None

    def twice(self) -> Conditioning:
        """All rows with their text, and behind them all rows without."""
        assert self.text is not None
        doubled: dict[str, Any] = {
            one.name: None if (value := getattr(self, one.name)) is None else torch.cat([value, value])
            for one in fields(self)
        }
        rows = len(self.history)
        doubled["text_hidden"] = torch.arange(2 * rows, device=self.history.device) >= rows
        return Conditioning(**doubled)


class View(nn.Module):
    """One camera's channels: a linear map for frames that were seen, another one for frames to come.

    Args:
        channels: c.
        width: D.
        predicted: Whether the camera's future is predicted.
        seen: Whether its history is seen.
        first: Whether it is the first view, whose vector for what is masked stands for a hidden history as well.
    """

    def __init__(self, channels: int, width: int, predicted: bool, seen: bool, first: bool) -> None:
        super().__init__()
        self.history = nn.Linear(channels, width) if seen else None
        self.future = nn.Linear(channels, width) if predicted else None
        self.masked = nn.Parameter(torch.zeros(1, width)) if predicted or first else None


class JointTransformer(nn.Module):
    """A plain bidirectional transformer over the cells of all future frames, with a second embedding of positions in
    the middle. Every cell holds, fused by one linear map, what is known there: its own frame, the history's frame of
    the same place in time, and its share of the actions and the state.

    Unlike MAR, masked cells are not left out but replaced by one learned vector, which also stands for a hidden
    history. Unlike the paper's figure 2, an action is not repeated over all cells of its frame: actions lie one behind
    the other over the cells, so that each covers its own part of a frame. The paper's "cross-attention" to language is
    a run of equal tokens before the others.

    Args:
        options: Sizes.
        predicted, seen: Per view whether its future is predicted, and whether its history is seen.
        action_dim: A.
        state_dim: S, 0 without proprioception.
        text_dim: E, 0 without language.
        views_in_clip: Concatenated views, which lie one behind another on the time axis; actions and state are spread
            over the frames of each of them.
    """

    measured_parts: ClassVar[dict[str, MeasuredPart]] = {"forward": "video forward"}

    def __init__(
        self,
        options: UvaJointOptions,
        predicted: list[bool],
        seen: list[bool],
        action_dim: int,
        state_dim: int,
        text_dim: int,
        views_in_clip: int = 1,
    ) -> None:
        super().__init__()
        self.views_in_clip = views_in_clip
        shape = options.transformer
        width, channels = shape.width, options.latent.latent_channels
        out, out_depth, out_heads = shape.decoder_shape
        self.frames, self.cells = views_in_clip * options.frames, options.grid[0] * options.grid[1]
        self.text_tokens = options.text_tokens if text_dim else 0
        self.hides_all, self.checkpointing = options.inverse_hides == "all", shape.checkpointing
        self.views: Iterable[View] = nn.ModuleList(  # type: ignore[assignment]
            [View(channels, width, *known, i == 0) for i, known in enumerate(zip(predicted, seen, strict=True))]
        )
        self.predicted = [index for index, known in enumerate(predicted) if known]
        self.action_in = nn.Linear(action_dim, width)
        self.masked_action = nn.Parameter(torch.zeros(1, width))
        if options.past_actions:
            self.past_action_in = nn.Linear(action_dim, width)
            self.masked_past_action = nn.Parameter(torch.zeros(1, width))
        self.past_actions = options.past_actions
        self.state_in = nn.Linear(state_dim, width) if state_dim else None
        if text_dim:
            self.text_in = nn.Linear(text_dim, width)
            self.no_text = nn.Parameter(torch.zeros(1, width))
            self.text_positions = nn.Parameter(torch.zeros(1, self.text_tokens, width))
            self.decoder_text_positions = nn.Parameter(torch.zeros(1, self.text_tokens, out))
        streams = sum(seen) + len(self.predicted) + 1 + bool(options.past_actions) + bool(state_dim)
        self.fuse = nn.Linear(streams * width, width)
        for name, size in (("", width), ("decoder_", out), ("output_", out)):
            setattr(self, f"{name}frame_positions", nn.Parameter(torch.zeros(1, self.frames, size)))
            setattr(self, f"{name}cell_positions", nn.Parameter(torch.zeros(1, self.cells, size)))
        norm = partial(nn.LayerNorm, eps=1e-6)
        block = partial(
            Block,
            mlp_ratio=shape.mlp_ratio,
            qkv_bias=True,
            norm_layer=norm,
            proj_drop=shape.dropout,
            attn_drop=shape.attention_dropout,
        )
        self.input_norm = norm(width)
        self.encoder = nn.ModuleList(block(width, shape.heads) for _ in range(shape.depth))
        self.encoder_norm = norm(width)
        self.decoder_in = nn.Linear(width, out)
        self.decoder = nn.ModuleList(block(out, out_heads) for _ in range(out_depth))
        self.decoder_norm = norm(out)
        self.apply(_initialise)
        for name, parameter in self.named_parameters():
            if "masked" in name or "positions" in name or name == "no_text":
                nn.init.normal_(parameter, std=0.02)

    def forward(self, conditioning: Conditioning) -> Tensor:
        """The joint latent ``(B, T S, D)``, the cells of the first frame first."""
        tokens = self.fuse(torch.cat(self._streams(conditioning), dim=-1)) + self._positions("")
        if self.text_tokens:
            tokens = torch.cat([self._text(conditioning), tokens], dim=1)
        tokens = self.input_norm(tokens)
        tokens = self.encoder_norm(self._run(self.encoder, tokens))
        positions = self._positions("decoder_")
        if self.text_tokens:
            positions = torch.cat([self.decoder_text_positions, positions], dim=1)
        tokens = self.decoder_norm(self._run(self.decoder, self.decoder_in(tokens) + positions))
        return tokens[:, self.text_tokens :] + self._positions("output_")

    def _streams(self, conditioning: Conditioning) -> list[Tensor]:
        """Per kind of knowledge ``(B, T S, D)``, in the order of the official weights."""
        rows, count = len(conditioning.history), self.frames * self.cells
        views = list(self.views)
        looking = [(view, view.history) for view in views if view.history is not None]
        (first, _), *others = looking
        assert first.masked is not None
        seen = [embed(conditioning.history[:, index].flatten(1, 2)) for index, (_, embed) in enumerate(looking)]
        hidden = conditioning.history_hidden[:, None, None]
        seen[0] = torch.where(hidden, first.masked, seen[0])
        if self.hides_all:
            seen[1:] = [
                torch.where(hidden, first.masked if view.masked is None else view.masked, tokens)
                for (view, _), tokens in zip(others, seen[1:], strict=True)
            ]
        ahead: list[Tensor] = []
        for view in views:
            if view.future is None or view.masked is None:
                continue
            if conditioning.future is None or conditioning.future_hidden is None:
                ahead.append(view.masked.expand(rows, count, -1))
                continue
            tokens = view.future(conditioning.future[:, len(ahead)].flatten(1, 2))
            ahead.append(torch.where(conditioning.future_hidden.repeat(1, self.frames)[..., None], view.masked, tokens))
        streams = [*ahead, seen[0]]
        if self.past_actions:
            streams.append(
                self._spread(
                    conditioning.past_actions, conditioning.past_hidden, self.past_action_in, self.masked_past_action
                )
                if conditioning.past_actions is not None
                else self.masked_past_action.expand(rows, count, -1)
            )
        if conditioning.actions is None:
            streams.append(self.masked_action.expand(rows, count, -1))
        else:
            streams.append(
                self._spread(conditioning.actions, conditioning.actions_hidden, self.action_in, self.masked_action)
            )
        streams += seen[1:]
        if self.state_in is not None:
            assert conditioning.state is not None
            streams.append(self._over_frames(self.state_in(conditioning.state)))
        return [stream.to(seen[0]) for stream in streams]

    def _spread(self, actions: Tensor | None, hidden: Tensor | None, embed: nn.Module, masked: Tensor) -> Tensor:
        """Actions ``(B, H, A)`` one behind the other over all cells, those that are hidden as one learned vector."""
        assert actions is not None and hidden is not None
        hidden = hidden[..., None]
        return self._over_frames(torch.where(hidden, masked, embed(torch.where(hidden, 0, actions))))

    def _over_frames(self, embedded: Tensor) -> Tensor:
        """Steps ``(B, N, D)`` one behind the other over the cells ``(B, T S, D)``, of every concatenated view again."""
        cells = self.frames * self.cells // self.views_in_clip
        return embedded.repeat_interleave(cells // embedded.shape[1], dim=1).repeat(1, self.views_in_clip, 1)

    def _text(self, conditioning: Conditioning) -> Tensor:
        assert conditioning.text is not None and conditioning.text_hidden is not None
        text = torch.where(conditioning.text_hidden[:, None], self.no_text, self.text_in(conditioning.text))
        return text[:, None] + self.text_positions

    def _positions(self, which: str) -> Tensor:
        """``(1, T S, D)``."""
        frames, cells = getattr(self, f"{which}frame_positions"), getattr(self, f"{which}cell_positions")
        return (frames[:, :, None] + cells[:, None]).flatten(1, 2)

    def _run(self, blocks: nn.ModuleList, tokens: Tensor) -> Tensor:
        for block in blocks:
            if self.checkpointing and self.training:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return tokens


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
