"""Official names to ours: those of UVA and MAR, and those of the autoencoder (``vaekl.py``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_TENSORS = {
    "fake_latent_x": "views.0.masked",
    "fake_latent_wrist_x": "views.1.masked",
    "fake_action_latent": "masked_action",
    "fake_latent_history_action": "masked_past_action",
    "fake_latent": "no_text",
    "text_pos_embed": "text_positions",
    "decoder_text_pos_embed": "decoder_text_positions",
    "temporal_pos_embed": "frame_positions",
    "spatial_pos_embed": "cell_positions",
    "decoder_temporal_pos_embed": "decoder_frame_positions",
    "decoder_spatial_pos_embed": "decoder_cell_positions",
    "diffusion_temporal_embed": "output_frame_positions",
    "diffusion_spatial_embed": "output_cell_positions",
}
_LAYERS = {
    "z_proj_cond": "views.0.history",
    "z_proj": "views.0.future",
    "proprioception_image_proj_cond": "views.1.history",
    "z_proj_wrist": "views.1.future",
    "action_proj_cond": "action_in",
    "history_action_proj_cond": "past_action_in",
    "proprioception_proj_cond": "state_in",
    "text_proj_cond": "text_in",
    "proj_cond_x_layer": "fuse",
    "z_proj_ln": "input_norm",
    "encoder_norm": "encoder_norm",
    "decoder_embed": "decoder_in",
    "decoder_norm": "decoder_norm",
}
_BLOCK = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
_HEADS = {
    "diffloss": "joint.video_heads.0",
    "diffloss_wrist": "joint.video_heads.1",
    "diffactloss": "action.head",
    "diffproploss": "joint.state_prediction.head",
}
_AGGREGATED = {"diffactloss": "action.aggregation", "diffproploss": "joint.state_prediction.aggregation"}
_HEAD = {
    "time_embed.mlp.0": "time.0",
    "time_embed.mlp.2": "time.2",
    "cond_embed": "condition_in",
    "input_proj": "sample_in",
    "final_layer.adaLN_modulation.1": "out_modulation",
    "final_layer.linear": "out",
}
_HEAD_BLOCK = {"in_ln": "norm", "mlp.0": "mlp.0", "mlp.2": "mlp.2", "adaLN_modulation.1": "modulation"}
_AGGREGATION = {
    "conv_fc": {name: name for name in ("fc.0", "fc.2", "interpolate", "refine.0", "refine.2")} | {"conv.0": "conv"},
    "conv_ori": {"conv_transpose3d": "upsample"},
    "conv2": {"conv.0": "conv.0", "conv.2": "conv.2"},
    "fc2": {"fc.0": "fc.0", "fc.2": "fc.2"},
}

_VAE_ENDS = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_VAE_RESIDUAL = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"nin_shortcut": "conv_shortcut"}
_VAE_MIDDLE = {"block_1": "resnets.0", "attn_1": "attentions.0", "block_2": "resnets.1"}


def model_names(names: Iterable[str], aggregation: str | None = None) -> dict[str, str]:
    """From below ``model.`` of UVA, or from MAR, to names in `vpolicy_uva.policy.UvaPolicy`.

    Names that are not known are left out.

    Args:
        names: Official names.
        aggregation: Which of the four the heads of actions and states have; None where there are no such heads.
    """
    inside = _AGGREGATION[aggregation] if aggregation else {}
    return {name: ours for name in names if (ours := _model_name(name, inside)) is not None}


def _model_name(name: str, aggregation: Mapping[str, str]) -> str | None:
    if name in _TENSORS:
        return f"joint.transformer.{_TENSORS[name]}"
    module, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if module in _LAYERS:
        return f"joint.transformer.{_LAYERS[module]}.{kind}"
    if found := re.fullmatch(r"(encoder|decoder)_blocks\.(\d+)\.(.+)", module):
        return f"joint.transformer.{found[1]}.{found[2]}.{found[3]}.{kind}" if found[3] in _BLOCK else None
    head, _, inside = module.partition(".")
    if head not in _HEADS:
        return None
    if inside.startswith("net."):
        ours = _head_name(inside.removeprefix("net."))
        return ours and f"{_HEADS[head]}.{ours}.{kind}"
    if head in _AGGREGATED and inside in aggregation:
        return f"{_AGGREGATED[head]}.{aggregation[inside]}.{kind}"
    return None


def _head_name(module: str) -> str | None:
    if found := re.fullmatch(r"res_blocks\.(\d+)\.(.+)", module):
        return f"blocks.{found[1]}.{_HEAD_BLOCK[found[2]]}" if found[2] in _HEAD_BLOCK else None
    return _HEAD.get(module)


def autoencoder_names(names: Iterable[str]) -> dict[str, str]:
    """From the official autoencoder to diffusers' ``AutoencoderKL``.

    Names that are not known are left out. 1 x 1 convolutions of the official attention are linear there: their last
    two axes go.
    """
    names = list(names)
    levels = count(r"encoder\.down\.(\d+)\.", names)
    return {name: ours for name in names if (ours := _autoencoder_name(name, levels)) is not None}


def _autoencoder_name(name: str, levels: int) -> str | None:
    module, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if module in ("quant_conv", "post_quant_conv"):
        return name
    half, _, inside = module.partition(".")
    if half not in ("encoder", "decoder"):
        return None
    ours = _VAE_ENDS.get(inside)
    if found := re.fullmatch(r"mid\.(block_1|attn_1|block_2)\.(\w+)", inside):
        ours = _layer(f"mid_block.{_VAE_MIDDLE[found[1]]}", found[2])
    elif found := re.fullmatch(r"(down|up)\.(\d+)\.(?:(block|attn)\.(\d+)\.(\w+)|(?:down|up)sample\.conv)", inside):
        side, level = found[1], int(found[2])
        # The official decoder counts its levels from the finest.
        block = f"{side}_blocks.{level if side == 'down' else levels - 1 - level}"
        if found[3] is None:
            ours = f"{block}.{side}samplers.0.conv"
        else:
            ours = _layer(f"{block}.{'resnets' if found[3] == 'block' else 'attentions'}.{found[4]}", found[5])
    return ours and f"{half}.{ours}.{kind}"


def _layer(place: str, layer: str) -> str | None:
    known = _VAE_ATTENTION if ".attentions." in place else _VAE_RESIDUAL
    return f"{place}.{known[layer]}" if layer in known else None


def count(pattern: str, names: Iterable[str]) -> int:
    """One more than the largest number that the pattern finds in its first group; 0 where it finds none."""
    return 1 + max((int(found[1]) for name in names if (found := re.match(pattern, name))), default=-1)
