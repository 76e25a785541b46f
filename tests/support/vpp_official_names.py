"""Names and shapes of the tensors in official checkpoints, written down from the construction of their modules.

``Video_Former.py``, ``diffusion_decoder.py``, ``transformer_blocks.py``, OpenAI's ``clip.py`` and transformers' CLIP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Clip:
    """Sizes of the two copies of CLIP.

    Args:
        out: Width of vectors.
        vocabulary, length, width, layers: Of OpenAI's, which encodes the goal.
        image_width, image_layers, patch, grid: Of its image tower.
        hub_vocabulary, hub_width, hub_hidden, hub_layers: Of transformers', which the video model reads.
    """

    out: int = 512
    vocabulary: int = 49408
    length: int = 77
    width: int = 512
    layers: int = 12
    image_width: int = 768
    image_layers: int = 12
    patch: int = 32
    grid: int = 7
    hub_vocabulary: int = 49408
    hub_width: int = 512
    hub_hidden: int = 2048
    hub_layers: int = 12


@dataclass(frozen=True)
class Sizes:
    """Sizes of an action model; the defaults are those of ``dp-calvin``."""

    channels: int = 2560
    dim: int = 384
    depth: int = 6
    inner: int = 512
    frames: int = 16
    latents: int = 14
    temporal: bool = True
    width: int = 384
    encoder: int = 4
    decoder: int = 4
    horizon: int = 10
    actions: int = 7
    state: int = 8
    clip: Clip = Clip()


def _linear(place: str, inputs: int, outputs: int, bias: bool = True) -> Shapes:
    return {f"{place}.weight": (outputs, inputs)} | ({f"{place}.bias": (outputs,)} if bias else {})


def _norm(place: str, width: int, bias: bool = True) -> Shapes:
    return {f"{place}.weight": (width,)} | ({f"{place}.bias": (width,)} if bias else {})


def _below(place: str, shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    return {place + name: shape for name, shape in shapes.items()}


def former(s: Sizes) -> Shapes:
    """104 tensors of the released size, 80 without attention over time."""
    found: Shapes = {"latents": (s.frames, s.latents, s.dim), "time_pos_emb": (s.frames, 1, s.dim)}
    found |= _linear("goal_emb.0", s.channels, 2 * s.dim) | _linear("goal_emb.2", 2 * s.dim, s.dim)
    for layer in range(s.depth):
        reads, last = f"layers.{layer}.0", f"layers.{layer}.{1 + s.temporal}"
        found |= _norm(f"{reads}.norm_media", s.dim) | _norm(f"{reads}.norm_latents", s.dim)
        for part in ("to_q", "to_k", "to_v"):
            found |= _linear(f"{reads}.{part}", s.dim, s.inner, bias=False)
        found |= _linear(f"{reads}.to_out", s.inner, s.dim, bias=False)
        if s.temporal:
            found |= _linear(f"layers.{layer}.1.qkv", s.dim, 3 * s.dim)
            found |= _linear(f"layers.{layer}.1.proj", s.dim, s.dim)
        found |= _norm(f"{last}.0", s.dim)
        found |= _linear(f"{last}.1", s.dim, 4 * s.dim, bias=False) | _linear(f"{last}.3", 4 * s.dim, s.dim, bias=False)
    return found | _norm("norm", s.dim)


def _attention(place: str, width: int) -> Shapes:
    found: Shapes = {}
    for part in ("key", "query", "value"):
        found |= _linear(f"{place}.{part}", width, width)
    return found | _linear(f"{place}.c_proj", width, width, bias=False)


def _mlp(place: str, inputs: int, width: int, last: str = "2", first: str = "0") -> Shapes:
    return _linear(f"{place}.{first}", inputs, 2 * width) | _linear(f"{place}.{last}", 2 * width, width)


def network(s: Sizes) -> Shapes:
    """157 tensors of the released size."""
    width = s.width
    found: Shapes = {"pos_emb": (1, 1 + s.frames * s.latents + s.horizon, width)} | _linear("tok_emb", s.dim, width)
    found |= _mlp("goal_emb", s.clip.out, width) | _mlp("lang_emb", s.clip.out, width)
    found |= _mlp("proprio_emb", s.state, width) | _mlp("sigma_emb", width, width, "3", "1")
    found |= _linear("action_emb", s.actions, width) | _linear("action_pred", width, s.actions)
    for half, count in (("encoder", s.encoder), ("decoder", s.decoder)):
        for block in (f"{half}.blocks.{number}" for number in range(count)):
            found |= _norm(f"{block}.ln_1", width, bias=False) | _norm(f"{block}.ln_2", width, bias=False)
            found |= _attention(f"{block}.attn", width)
            found |= _linear(f"{block}.mlp.c_fc", width, 4 * width, bias=False)
            found |= _linear(f"{block}.mlp.c_proj", 4 * width, width, bias=False)
            if half == "decoder":
                found |= _attention(f"{block}.cross_att", width) | _norm(f"{block}.ln3", width)
                found |= _linear(f"{block}.adaLN_zero.modulation.1", width, 6 * width)
        found |= _norm(f"{half}.ln", width, bias=False)
    return found


def _tower(place: str, width: int, layers: int) -> Shapes:
    found: Shapes = {}
    for block in (f"{place}.resblocks.{number}" for number in range(layers)):
        found |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        found |= _linear(f"{block}.attn.out_proj", width, width)
        found |= _norm(f"{block}.ln_1", width) | _norm(f"{block}.ln_2", width)
        found |= _linear(f"{block}.mlp.c_fc", width, 4 * width) | _linear(f"{block}.mlp.c_proj", 4 * width, width)
    return found


def openai_text(c: Clip) -> Shapes:
    """150 tensors of the released size."""
    found: Shapes = {"positional_embedding": (c.length, c.width), "text_projection": (c.width, c.out)}
    found |= {"logit_scale": (), "token_embedding.weight": (c.vocabulary, c.width)} | _norm("ln_final", c.width)
    return found | _tower("transformer", c.width, c.layers)


def openai_image(c: Clip) -> Shapes:
    """152 tensors of the released size."""
    width = c.image_width
    found: Shapes = {"class_embedding": (width,), "positional_embedding": (c.grid**2 + 1, width)}
    found |= {"proj": (width, c.out), "conv1.weight": (width, 3, c.patch, c.patch)}
    found |= _norm("ln_pre", width) | _norm("ln_post", width)
    return _below("visual.", found | _tower("transformer", width, c.image_layers))


def hub_text(c: Clip) -> Shapes:
    """197 tensors of the released size."""
    width = c.hub_width
    place = "text_model.embeddings"
    found: Shapes = {f"{place}.token_embedding.weight": (c.hub_vocabulary, width)}
    found |= {f"{place}.position_embedding.weight": (c.length, width)}
    for layer in (f"text_model.encoder.layers.{number}" for number in range(c.hub_layers)):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= _linear(f"{layer}.self_attn.{part}", width, width)
        found |= _norm(f"{layer}.layer_norm1", width) | _norm(f"{layer}.layer_norm2", width)
        found |= _linear(f"{layer}.mlp.fc1", width, c.hub_hidden) | _linear(f"{layer}.mlp.fc2", c.hub_hidden, width)
    return found | _norm("text_model.final_layer_norm", width) | _linear("text_projection", width, c.out, bias=False)


def calvin(s: Sizes) -> Shapes:
    """A whole action model of ``VPP_policy.py``: 760 tensors of the released size."""
    found = _below("Video_Former.", former(s)) | _below("model.inner_model.", network(s))
    found |= _below("language_goal.clip_rn50.", openai_text(s.clip) | openai_image(s.clip))
    return found | _below("TVP_encoder.text_encoder.", hub_text(s.clip))


def robot(s: Sizes) -> Shapes:
    """One of ``VPP_policy_xbot.py``, which has one CLIP under two names."""
    found = _below("Video_Former.", former(s)) | _below("model.inner_model.", network(s))
    return found | _below("TVP_encoder.text_encoder.", hub_text(s.clip)) | _below("text_encoder.", hub_text(s.clip))
