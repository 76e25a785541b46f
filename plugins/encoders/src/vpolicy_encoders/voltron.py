"""Voltron's encoder of patches and words.

Parameters have the official names (``models/core/vcond.py`` and ``models/util/transformer.py`` of
github.com/siddk/voltron-robotics), so that its files map one to one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torch.nn import functional

from videopolicy import TextEncoder, WeightsError, listing, read_checkpoint
from videopolicy.parts.files import expanded
from videopolicy.parts.weights import ensure_no_differences, without_loading
from vpolicy_encoders.fitting import ensure_fit
from vpolicy_encoders.images import IMAGENET_DEVIATION, IMAGENET_MEAN
from vpolicy_encoders.language import DistilBertTextEncoder
from vpolicy_encoders.options import VOLTRON, Voltron

_RECONSTRUCTING = ("decoder_", "encoder2decoder.", "mask_token")
_LANGUAGE = "lm."


class RootMeanSquareNorm(nn.Module):
    """Tokens divided by their root mean square, times a learned scale."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens / tokens.square().mean(dim=-1, keepdim=True).sqrt().clamp(min=1e-8) * self.g


class LayerScale(nn.Module):
    """A learned factor for every channel of a residual branch, 0.1 at the start."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class GatedLinear(nn.Module):
    """A linear layer whose first half is gated by the swish of its second."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, 2 * hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        values, gate = self.project(tokens).chunk(2, dim=-1)
        return values * functional.silu(gate)


class SelfAttention(nn.Module):
    """Attention over patches and words.

    The official mask hides no key: it makes all scores of a query equal that only fills a sentence up. Such a word
    reads the mean of everything, and everybody reads such words.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, asking: Tensor | None) -> Tensor:
        """``(N, L, D)``, and ``(N, L, 1)`` of 1 and 0 where a token only fills up, to ``(N, L, D)``."""
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        if asking is not None:
            query = query * asking
        split = [one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in (query, key, value)]
        return self.proj(functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a gated feed-forward layer of four times the width, both scaled."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.pre_norm_attn = RootMeanSquareNorm(dim)
        self.attn = SelfAttention(dim, heads)
        self.layer_scale_attn = LayerScale(dim)
        self.pre_norm_mlp = RootMeanSquareNorm(dim)
        self.mlp = nn.Sequential(GatedLinear(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))
        self.layer_scale_mlp = LayerScale(dim)

    def forward(self, tokens: Tensor, asking: Tensor | None) -> Tensor:
        tokens = tokens + self.layer_scale_attn(self.attn(self.pre_norm_attn(tokens), asking))
        return tokens + self.layer_scale_mlp(self.mlp(self.pre_norm_mlp(tokens)))


class VoltronEncoder(nn.Module):
    """See `vpolicy_encoders.options.Voltron`.

    Args:
        options: Shape and weights.
        words: Width of a word's token.
        text: What reads the sentences; its language model is compared with that of the weights.

    Raises:
        WeightsError: The weights are missing, or of another network.
    """

    mean, deviation = IMAGENET_MEAN, IMAGENET_DEVIATION
    encoder_pe: Tensor

    def __init__(self, options: Voltron, words: int, text: TextEncoder) -> None:
        super().__init__()
        self.options = options
        width = options.width
        project = nn.Conv2d(3, width, options.patch, stride=options.patch)
        self.patch2embed = nn.ModuleDict({"proj": project})
        self.register_buffer("encoder_pe", positions(width, options.grid, options.class_token))
        self.encoder_blocks = nn.ModuleList(Block(width, options.heads) for _ in range(options.depth))
        self.encoder_norm = RootMeanSquareNorm(width)
        self.lang2encoder = nn.Linear(words, width)
        self.img_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.lang_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width)) if options.class_token else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(project.weight.data.view(width, -1))
        if options.weights is not None and not without_loading():
            self._load(expanded(options.weights), text)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens of patches, and of words where the options require them.

        Args:
            pixels: ``(N, 3, H, W)``.
            words: ``(N, L, E)``.
            mask: ``(N, L)`` bool, False where a word only fills up; None: all are there.

        Returns:
            ``(N, n, D)``.
        """
        patches = self.patch2embed["proj"](pixels).flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            patches = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        patches = patches + self.encoder_pe + self.img_token
        tokens = torch.cat([patches, self.lang2encoder(words) + self.lang_token], dim=1)
        asking = None
        if mask is not None:
            asking = functional.pad(mask.to(tokens), (patches.shape[1], 0), value=1.0).unsqueeze(-1)
        for block in self.encoder_blocks:
            tokens = block(tokens, asking)
        tokens = self.encoder_norm(tokens)
        if self.options.tokens == "multimodal":
            return tokens
        first = int(self.options.class_token)
        return tokens[:, first : first + self.options.grid**2]

    def _load(self, path: Path, text: TextEncoder) -> None:
        checkpoint = read_checkpoint(path)
        pair = checkpoint.content  # weights and the state of the optimiser
        if not isinstance(pair, list | tuple) or not pair or not isinstance(pair[0], Mapping):
            raise WeightsError(
                f"{path} is no file of {VOLTRON}, which holds weights and an optimiser's state, one behind the other.",
                "Name the file that the authors' `voltron.load` downloads, such as cache/v-cond/v-cond.pt.",
            )
        state = replace(checkpoint, content=pair[0]).tensors()
        _ensure_same_language(path, state, text)
        state = {name: value for name, value in state.items() if not name.startswith((*_RECONSTRUCTING, _LANGUAGE))}
        own = self.state_dict()
        ensure_fit(path, VOLTRON, own, state, "patch2embed.proj.weight", self.options.positions)
        ensure_no_differences(str(path), own.keys() - state.keys(), state.keys() - own.keys())
        _ensure_same_heads(path, self.options.heads)
        prefix = int(self.options.class_token)
        grid = [self.options.grid, self.options.grid]
        state["encoder_pe"] = resample_abs_pos_embed(state["encoder_pe"], grid, num_prefix_tokens=prefix)
        self.load_state_dict(state)


def positions(width: int, grid: int, class_token: bool) -> Tensor:
    """Sines and cosines of a patch's column and, behind them, of its row, ``(1, grid grid, D)`` (He et al. 2022).

    Args:
        width: D.
        grid: Patches along a side.
        class_token: Whether zeros for a class token stand in front.
    """
    quarter = width // 4
    frequencies = 10000.0 ** -(torch.arange(quarter) / quarter)
    angles = torch.arange(grid)[:, None] * frequencies
    along = torch.cat([angles.sin(), angles.cos()], dim=1)
    both = torch.cat([along.repeat(grid, 1), along.repeat_interleave(grid, dim=0)], dim=1)
    return functional.pad(both, (0, 0, int(class_token), 0))[None]


def _ensure_same_language(path: Path, state: Mapping[str, Tensor], text: TextEncoder) -> None:
    """The published file repeats DistilBERT, which is frozen: it must be the one that the policy reads with."""
    theirs = {name.removeprefix(_LANGUAGE): value for name, value in state.items() if name.startswith(_LANGUAGE)}
    assert isinstance(text, DistilBertTextEncoder), "the options require it beside weights"
    different = [
        name
        for name, value in text.model.state_dict().items()
        if name not in theirs or theirs[name].shape != value.shape or not torch.allclose(theirs[name].to(value), value)
    ]
    if different:
        raise WeightsError(
            f"{path} was trained with another DistilBERT than `text` has loaded: {listing(different, 4)} differ.",
            "Use {type: distilbert-text} with distilbert/distilbert-base-uncased, or the one that it was trained with.",
        )


def _ensure_same_heads(path: Path, heads: int) -> None:
    """No weight's shape says how many heads there are; the description beside the authors' file does."""
    description = path.with_name(f"{path.stem}-config.json")
    if not description.is_file():
        return
    try:
        theirs = json.loads(description.read_text(encoding="utf-8")).get("encoder_n_heads", heads)
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"{description} cannot be read: {error}", "Copy it again, or remove it.") from error
    if theirs != heads:
        raise WeightsError(f"{path} has {theirs} attention heads, the recipe {heads}.", f"Set heads: {theirs}.")
