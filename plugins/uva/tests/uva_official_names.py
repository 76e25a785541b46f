"""Names and shapes of the tensors in official checkpoints, written down from the construction of their modules
(``mar_con_unified.py``, ``diffusion_loss.py``, ``diffusion_action_loss.py``, ``vaekl.py``, ``normalizer.py``, MAR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sizes:
    """Of a model; the defaults are those of all official configurations (``mar_base``)."""

    width: int = 768
    depth: int = 12
    decoder_width: int = 768
    decoder_depth: int = 12
    head_width: int = 1024
    head_depth: int = 6
    frames: int = 4
    cells: int = 256
    channels: int = 16


@dataclass(frozen=True)
class Variant:
    """What the official configuration says."""

    actions: int = 2
    text: bool = False
    state: int = 0
    second_camera: bool = False  # a layer for it; unused in UMI's files
    second_used: bool = False
    wrist: bool = False
    predicted_state: int = 0
    past_actions: bool = False
    aggregation: str | None = "conv_fc"
    video: bool = True


PUSHT = Variant()
LIBERO = Variant(actions=10, text=True)
UMI = Variant(actions=10, text=True, state=16, second_camera=True, predicted_state=6)
TOOLHANG_BASE = Variant(actions=10)
TOOLHANG = Variant(actions=10, state=9, second_camera=True, second_used=True, wrist=True, predicted_state=9)
TOOLHANG_SEEN = Variant(actions=10, text=True, state=9, second_camera=True, second_used=True, predicted_state=9)
PAST = Variant(past_actions=True)


def linear(name: str, out: int, *inside: int) -> Shapes:
    return {f"{name}.weight": (out, *inside), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return linear(name, width)


def blocks(name: str, depth: int, width: int) -> Shapes:
    found: Shapes = {}
    for n in range(depth):
        at = f"{name}.{n}."
        found |= norm(f"{at}norm1", width) | linear(f"{at}attn.qkv", 3 * width, width)
        found |= linear(f"{at}attn.proj", width, width) | norm(f"{at}norm2", width)
        found |= linear(f"{at}mlp.fc1", 4 * width, width) | linear(f"{at}mlp.fc2", width, 4 * width)
    return found


def head(at: str, channels: int, width: int, depth: int, condition: int) -> Shapes:
    found = linear(f"{at}time_embed.mlp.0", width, 256) | linear(f"{at}time_embed.mlp.2", width, width)
    found |= linear(f"{at}cond_embed", width, condition) | linear(f"{at}input_proj", width, channels)
    for n in range(depth):
        block = f"{at}res_blocks.{n}."
        found |= norm(f"{block}in_ln", width) | linear(f"{block}mlp.0", width, width)
        found |= linear(f"{block}mlp.2", width, width) | linear(f"{block}adaLN_modulation.1", 3 * width, width)
    found |= linear(f"{at}final_layer.linear", 2 * channels, width)
    return found | linear(f"{at}final_layer.adaLN_modulation.1", 2 * width, width)


def action_head(at: str, channels: int, sizes: Sizes, aggregation: str) -> Shapes:
    condition, actions, tokens = sizes.decoder_width, 4 * sizes.frames, sizes.frames * sizes.cells
    if aggregation == "conv_fc":
        found = linear(f"{at}conv.0", condition, condition, 3, 3) | linear(f"{at}fc.0", condition, 16 * condition)
        found |= linear(f"{at}fc.2", condition, condition) | linear(f"{at}interpolate", actions, sizes.frames)
        found |= linear(f"{at}refine.0", condition, condition) | linear(f"{at}refine.2", condition, condition)
    elif aggregation == "conv_ori":
        found = linear(f"{at}conv_transpose3d", condition, condition, 4, 1, 1)
    elif aggregation == "conv2":
        found = linear(f"{at}conv.0", tokens // 4, tokens, 7) | linear(f"{at}conv.2", actions, tokens // 4, 7)
    else:
        found = linear(f"{at}fc.0", tokens // 4, tokens) | linear(f"{at}fc.2", actions, tokens // 4)
    return found | head(f"{at}net.", channels, sizes.head_width, sizes.head_depth, condition)


def model(variant: Variant, sizes: Sizes = Sizes()) -> Shapes:
    """Below ``model.`` of UVA's checkpoints."""
    width, out = sizes.width, sizes.decoder_width
    found: Shapes = {"fake_latent_x": (1, width), "fake_action_latent": (1, width)}
    for start, size in (("", width), ("decoder_", out)):
        found |= {f"{start}temporal_pos_embed": (1, sizes.frames, size)}
        found |= {f"{start}spatial_pos_embed": (1, sizes.cells, size)}
    found |= {"diffusion_temporal_embed": (1, sizes.frames, out), "diffusion_spatial_embed": (1, sizes.cells, out)}
    found |= linear("z_proj_cond", width, sizes.channels) | linear("z_proj", width, sizes.channels)
    found |= linear("action_proj_cond", width, variant.actions)
    streams = 3
    if variant.text:
        found |= {"fake_latent": (1, width), "text_pos_embed": (1, 64, width), "decoder_text_pos_embed": (1, 64, out)}
        found |= linear("text_proj_cond", width, 512)
    if variant.past_actions:
        found |= {"fake_latent_history_action": (1, width)}
        found |= linear("history_action_proj_cond", width, variant.actions)
        streams += 1
    if variant.state:
        found |= linear("proprioception_proj_cond", width, variant.state)
        streams += 1
    if variant.second_camera:
        found |= linear("proprioception_image_proj_cond", width, sizes.channels)
        streams += variant.second_used
    if variant.wrist:
        found |= {"fake_latent_wrist_x": (1, width)} | linear("z_proj_wrist", width, sizes.channels)
        streams += 1
    found |= linear("proj_cond_x_layer", width, streams * width) | norm("z_proj_ln", width)
    found |= blocks("encoder_blocks", sizes.depth, width) | norm("encoder_norm", width)
    found |= linear("decoder_embed", out, width)
    found |= blocks("decoder_blocks", sizes.decoder_depth, out) | norm("decoder_norm", out)
    for name, there in (("diffloss", variant.video), ("diffloss_wrist", variant.wrist)):
        if there:
            found |= head(f"{name}.net.", sizes.channels, sizes.head_width, sizes.head_depth, out)
    if variant.aggregation:
        found |= action_head("diffactloss.", variant.actions, sizes, variant.aggregation)
        if variant.predicted_state:
            found |= action_head("diffproploss.", variant.predicted_state, sizes, variant.aggregation)
    return found


def mar(sizes: Sizes) -> Shapes:
    """MAR's ImageNet model."""
    width, out = sizes.width, sizes.decoder_width
    found: Shapes = {"fake_latent": (1, width), "class_emb.weight": (1000, width), "mask_token": (1, 1, out)}
    found |= {"encoder_pos_embed_learned": (1, sizes.cells + 64, width)}
    found |= {"decoder_pos_embed_learned": (1, sizes.cells + 64, out)}
    found |= {"diffusion_pos_embed_learned": (1, sizes.cells, out)}
    found |= linear("z_proj", width, sizes.channels) | norm("z_proj_ln", width)
    found |= blocks("encoder_blocks", sizes.depth, width) | norm("encoder_norm", width)
    found |= linear("decoder_embed", out, width)
    found |= blocks("decoder_blocks", sizes.decoder_depth, out) | norm("decoder_norm", out)
    return found | head("diffloss.net.", sizes.channels, sizes.head_width, sizes.head_depth, out)


def _residual(at: str, inside: int, out: int) -> Shapes:
    found = norm(f"{at}norm1", inside) | linear(f"{at}conv1", out, inside, 3, 3)
    found |= norm(f"{at}norm2", out) | linear(f"{at}conv2", out, out, 3, 3)
    return found | (linear(f"{at}nin_shortcut", out, inside, 1, 1) if inside != out else {})


def _attention(at: str, width: int) -> Shapes:
    found = norm(f"{at}norm", width)
    for name in ("q", "k", "v", "proj_out"):
        found |= linear(f"{at}{name}", width, width, 1, 1)
    return found


def _middle(at: str, width: int) -> Shapes:
    return (
        _residual(f"{at}mid.block_1.", width, width)
        | _attention(f"{at}mid.attn_1.", width)
        | _residual(f"{at}mid.block_2.", width, width)
    )


def autoencoder(widths: Sequence[int] = (128, 128, 256, 256, 512), layers: int = 2, channels: int = 16) -> Shapes:
    """kl-f16: attention in the middle, and at the encoder's coarsest level."""
    last = len(widths) - 1
    found = linear("encoder.conv_in", widths[0], 3, 3, 3)
    inside = widths[0]
    for level, width in enumerate(widths):
        for layer in range(layers):
            found |= _residual(f"encoder.down.{level}.block.{layer}.", inside, width)
            if level == last:
                found |= _attention(f"encoder.down.{level}.attn.{layer}.", width)
            inside = width
        if level < last:
            found |= linear(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    found |= _middle("encoder.", inside) | norm("encoder.norm_out", inside)
    found |= linear("encoder.conv_out", 2 * channels, inside, 3, 3)
    found |= linear("decoder.conv_in", inside, channels, 3, 3) | _middle("decoder.", inside)
    for level in range(last, -1, -1):
        width = widths[level]
        for layer in range(layers + 1):
            found |= _residual(f"decoder.up.{level}.block.{layer}.", inside, width)
            inside = width
        if level:
            found |= linear(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    found |= norm("decoder.norm_out", inside) | linear("decoder.conv_out", 3, inside, 3, 3)
    found |= linear("quant_conv", 2 * channels, 2 * channels, 1, 1)
    return found | linear("post_quant_conv", channels, channels, 1, 1)
