"""What the shapes of an official action model say about its architecture, and our modules of these sizes.

Modules are built on the meta device: names and shapes, no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from videopolicy import WeightsError
from vpolicy_vpp.formers import VideoFormerModule
from vpolicy_vpp.options import DitDiffusionOptions, VideoFormer, VideoFormer2D
from vpolicy_vpp.transformer import DiffusionTransformer

State = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

TAPS: dict[int, tuple[str, ...]] = {
    2560: ("up0", "up1"),
    3200: ("up0", "up1", "up2"),
    1280: ("up1",),
    640: ("up2",),
}
"""Feature maps of Stable Video Diffusion by the channels that they have together: ``extract_layer_idx`` 1 or 2, with
``use_all_layer`` and without; the class for real robots always has the one map of index 1."""

HEADS = 8
"""Of the diffusion transformer; ``score_wrappers.py`` has it as a constant."""
_HEAD_CHANNELS = 64


@dataclass
class Report:
    """Names that do not fit, as they stand in the checkpoint."""

    unexpected: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def compare(self, prefix: str, found: State, own: Shapes) -> None:
        """Compare names and shapes with those of a module of the same sizes."""
        self.missing += sorted(prefix + name for name in own.keys() - found.keys())
        self.unexpected += sorted(prefix + name for name in found.keys() - own.keys())
        for name in sorted(own.keys() & found.keys()):
            if (shape := tuple(found[name].shape)) != own[name]:
                self.unexpected.append(f"{prefix}{name} of shape {shape} instead of {own[name]}")


@dataclass(frozen=True)
class Former:
    """Sizes of a Video Former.

    Args:
        temporal: Whether it attends over time.
        dim, depth, heads, dim_head, latents, ff_mult: See `vpolicy_vpp.options.VideoFormer`.
        frames: T.
        channels: C, of the features that it reads.
    """

    temporal: bool
    dim: int
    depth: int
    heads: int
    dim_head: int
    latents: int
    ff_mult: int
    frames: int
    channels: int

    @property
    def tokens(self) -> int:
        """How many tokens it gives."""
        return self.frames * self.latents

    def options(self) -> dict[str, Any]:
        """As a recipe has them."""
        return {
            "type": "video-former" if self.temporal else "video-former-2d",
            "dim": self.dim,
            "depth": self.depth,
            "heads": self.heads,
            "dim_head": self.dim_head,
            "latents_per_frame": self.latents,
            "ff_mult": self.ff_mult,
        }

    def shapes(self) -> Shapes:
        """Names and shapes of our module."""
        kind = VideoFormer if self.temporal else VideoFormer2D
        with torch.device("meta"):
            return _shapes(VideoFormerModule(kind.model_validate(self.options()), self.channels, self.frames))


@dataclass(frozen=True)
class Network:
    """Sizes of a diffusion transformer.

    Args:
        width, encoder_layers, decoder_layers, mlp_mult, horizon: See `vpolicy_vpp.options.DitDiffusionOptions`.
        actions, state: A and S; the file has a reader of states even where there are none.
        goal: Width of the vector of a sentence.
    """

    width: int
    encoder_layers: int
    decoder_layers: int
    mlp_mult: int
    horizon: int
    actions: int
    state: int
    goal: int

    def options(self) -> dict[str, Any]:
        """As a recipe has them."""
        return {
            "horizon": self.horizon,
            "width": self.width,
            "encoder_layers": self.encoder_layers,
            "decoder_layers": self.decoder_layers,
            "heads": HEADS,
            "mlp_mult": self.mlp_mult,
        }

    def shapes(self, tokens: int, with_state: bool) -> Shapes:
        """Names and shapes of our module, which reads tokens of this width."""
        options = DitDiffusionOptions.model_validate(self.options())
        state = self.state if with_state else 0
        with torch.device("meta"):
            return _shapes(DiffusionTransformer(options, tokens, self.goal, self.actions, state))


def former_options(state: State, heads: int | None) -> Former:
    """Sizes of the Video Former whose tensors these are.

    Args:
        state: The tensors below ``Video_Former.``.
        heads: Attention heads; None for one per 64 channels.

    Raises:
        KeyError: A tensor that shows a size is missing.
        WeightsError: Channels do not come apart into these heads.
    """
    _need(state, "Video_Former.", "latents", "goal_emb.0.weight", "layers.0.0.to_q.weight")
    frames, latents, dim = state["latents"].shape
    inner = state["layers.0.0.to_q.weight"].shape[0]
    heads = heads or max(inner // _HEAD_CHANNELS, 1)
    if inner % heads or dim % heads:
        raise WeightsError(
            f"The Video Former's {inner} and {dim} channels do not come apart into {heads} attention heads.",
            "Name their number with former_heads=NUMBER.",
        )
    temporal = "layers.0.1.qkv.weight" in state
    last = f"layers.0.{2 if temporal else 1}.1.weight"
    _need(state, "Video_Former.", last)
    return Former(
        temporal=temporal,
        dim=dim,
        depth=_count("layers.", state),
        heads=heads,
        dim_head=inner // heads,
        latents=latents,
        ff_mult=state[last].shape[0] // dim,
        frames=frames,
        channels=state["goal_emb.0.weight"].shape[1],
    )


def network_options(state: State, positions: Tensor | None, tokens: int) -> Network:
    """Sizes of the diffusion transformer whose tensors these are.

    Args:
        state: The tensors below ``model.inner_model.``.
        positions: ``pos_emb``, which is never read and still shows the horizon: it has one position for the goal and
            one for every token and every action.
        tokens: That the Video Former gives.

    Raises:
        KeyError: A tensor that shows a size is missing.
        WeightsError: Positions do not go with that number of tokens.
    """
    names = ("tok_emb.weight", "action_emb.weight", "lang_emb.0.weight", "decoder.blocks.0.mlp.c_fc.weight")
    _need(state, "model.inner_model.", *names)
    if positions is None:
        raise KeyError("model.inner_model.pos_emb")
    width = state["tok_emb.weight"].shape[0]
    horizon = positions.shape[1] - 1 - tokens
    if horizon < 1 or width % HEADS:
        raise WeightsError(
            f"The diffusion transformer has {positions.shape[1]} positions and {width} channels, the Video Former "
            f"{tokens} tokens: with one goal no action is left, or channels do not come apart into {HEADS} heads.",
            "Only action models of the official code with one observed frame can be imported.",
        )
    reader = state.get("proprio_emb.0.weight")
    return Network(
        width=width,
        encoder_layers=_count("encoder.blocks.", state),
        decoder_layers=_count("decoder.blocks.", state),
        mlp_mult=state["decoder.blocks.0.mlp.c_fc.weight"].shape[0] // width,
        horizon=horizon,
        actions=state["action_emb.weight"].shape[1],
        state=1 if reader is None else reader.shape[1],  # which its absence then shows as missing
        goal=state["lang_emb.0.weight"].shape[1],
    )


def _need(state: State, prefix: str, *names: str) -> None:
    for name in names:
        if name not in state:
            raise KeyError(prefix + name)


def _count(prefix: str, state: State) -> int:
    """How many numbers follow a beginning of names."""
    numbers = {name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)}
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)


def _shapes(module: nn.Module) -> Shapes:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}
