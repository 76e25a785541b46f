"""Official names to ours: those of Stable Video Diffusion's first code base (``sgm``), and those of Video Policy.

The four functions that end in ``_names`` take all names of a family, without its prefix, and map them to our names.
Names that the family has not are left out of it. Nothing depends on widths; numbers of levels and layers are read off
the names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_UNET_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_VAE_RESIDUAL = ("norm1", "conv1", "norm2", "conv2")


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """From below ``model.diffusion_model.`` to diffusers' ``UNetSpatioTemporalConditionModel``."""
    names = list(names)
    layers = unet_layers(names)
    return _mapping(names, lambda name: _unet_name(name, layers))


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """From an autoencoder's ``encoder.``, ``decoder.`` and ``quant_conv.`` to ``AutoencoderKLTemporalDecoder``.

    1 x 1 convolutions of the official attention are linear there: their last two axes go.
    """
    names = list(names)
    levels = vae_levels(names)
    return _mapping(names, lambda name: _vae_name(name, levels))


def adapter_names(names: Iterable[str]) -> dict[str, str]:
    """From below ``vision_encoder.`` to `vpolicy_video_policy.adapter.CnnAdapter`."""
    names = list(names)
    taps, squeezes = adapter_depths(names)
    return _mapping(names, lambda name: _adapter_name(name, taps, squeezes))


def action_unet_names(names: Iterable[str]) -> dict[str, str]:
    """From below ``pose_pred_net.`` to `vpolicy_video_policy.action_unet.ConditionalUNet`, which has the same names."""
    return {name: name for name in names}


def _mapping(names: Iterable[str], renamed: Callable[[str], str | None]) -> dict[str, str]:
    return {name: ours for name in names if (ours := renamed(name)) is not None}


def count(pattern: str, names: Iterable[str]) -> int:
    """One more than the largest number that the pattern finds in its first group; 0 where it finds none."""
    return 1 + max((int(found[1]) for name in names if (found := re.match(pattern, name))), default=-1)


def unet_layers(names: Iterable[str]) -> int:
    """Residual layers of a level on the way down: the first downsampling stands behind as many."""
    names = list(names)
    downs = [int(found[1]) for name in names if (found := re.fullmatch(r"input_blocks\.(\d+)\.0\.op\.weight", name))]
    return min(downs) - 1 if downs else max(count(r"input_blocks\.(\d+)\.", names) - 1, 1)


def vae_levels(names: Iterable[str]) -> int:
    """Resolutions of an autoencoder."""
    return count(r"encoder\.down\.(\d+)\.", names)


def adapter_depths(names: Iterable[str]) -> tuple[int, int]:
    """Layers of a view that each take a feature map, and layers of a view behind these."""
    names = list(names)
    taps = max(count(r"layer(\d+)_\d+_cat\.", names) - 1, 1)
    return taps, max(count(r"layer(\d+)_\d+\.", names) - 1 - taps, 0)


def _unet_name(name: str, layers: int) -> str | None:
    module, _, kind = name.rpartition(".")
    if module in _UNET_ENDS:
        return f"{_UNET_ENDS[module]}.{kind}"
    if found := re.fullmatch(r"middle_block\.([012])\.(.+)", name):
        place, rest = f"mid_block.{_UNET_MIDDLE[found[1]]}", found[2]
    elif found := re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)", name):
        side, index, child, rest = found[1], int(found[2]), found[3], found[4]
        # The first of the input blocks is the convolution; behind the layers of a level comes its downsampling.
        block, layer = divmod(index - (side == "input"), layers + 1)
        blocks = f"{'down' if side == 'input' else 'up'}_blocks.{block}"
        if rest in ("op.weight", "op.bias") and layer == layers:
            return f"{blocks}.downsamplers.0.conv.{kind}"
        if rest in ("conv.weight", "conv.bias") and side == "output":
            return f"{blocks}.upsamplers.0.conv.{kind}"
        place = f"{blocks}.{'resnets' if child == '0' else 'attentions'}.{layer}"
    else:
        return None
    inside = _transformer_name(rest) if ".attentions." in place else _residual_name(rest)
    return inside and f"{place}.{inside}"


def _residual_name(name: str) -> str | None:
    if name == "time_mixer.mix_factor":
        return name
    half = "temporal_res_block" if name.startswith("time_stack.") else "spatial_res_block"
    module, _, kind = name.removeprefix("time_stack.").rpartition(".")
    return f"{half}.{_RESIDUAL[module]}.{kind}" if module in _RESIDUAL else None


def _transformer_name(name: str) -> str | None:
    name = re.sub(r"^time_stack\.", "temporal_transformer_blocks.", name)
    name = re.sub(r"^time_pos_embed\.([02])\.", lambda m: f"time_pos_embed.linear_{1 + int(m[1]) // 2}.", name)
    known = r"(norm|proj_in|proj_out|transformer_blocks|temporal_transformer_blocks|time_pos_embed|time_mixer)\..+"
    return name if re.fullmatch(known, name) else None


def _vae_name(name: str, levels: int) -> str | None:
    half, _, rest = name.partition(".")
    if half == "quant_conv":
        return name
    if half not in ("encoder", "decoder"):
        return None
    inside = _vae_inside(rest, levels, temporal=half == "decoder")
    return inside and f"{half}.{inside}"


def _vae_inside(name: str, levels: int, temporal: bool) -> str | None:
    if found := re.fullmatch(r"conv_out\.time_mix_conv\.(weight|bias)", name):
        return f"time_conv_out.{found[1]}" if temporal else None
    if found := re.fullmatch(r"(conv_in|conv_out|norm_out)\.(weight|bias)", name):
        return f"{'conv_norm_out' if found[1] == 'norm_out' else found[1]}.{found[2]}"
    if found := re.fullmatch(r"mid\.attn_1\.(\w+)\.(weight|bias)", name):
        part = _VAE_ATTENTION.get(found[1])
        return part and f"mid_block.attentions.0.{part}.{found[2]}"
    if found := re.fullmatch(r"(down|up)\.(\d+)\.(downsample|upsample)\.conv\.(weight|bias)", name):
        return f"{_vae_block(found[1], int(found[2]), levels)}.{found[3]}rs.0.conv.{found[4]}"
    if found := re.fullmatch(r"mid\.block_([12])\.(.+)", name):
        place, rest = f"mid_block.resnets.{int(found[1]) - 1}", found[2]
    elif found := re.fullmatch(r"(down|up)\.(\d+)\.block\.(\d+)\.(.+)", name):
        place, rest = f"{_vae_block(found[1], int(found[2]), levels)}.resnets.{found[3]}", found[4]
    else:
        return None
    inside = _vae_residual_name(rest, temporal)
    return inside and f"{place}.{inside}"


def _vae_block(side: str, level: int, levels: int) -> str:
    """The official decoder counts its levels from the finest."""
    return f"down_blocks.{level}" if side == "down" else f"up_blocks.{levels - 1 - level}"


def _vae_residual_name(name: str, temporal: bool) -> str | None:
    if temporal and name == "mix_factor":
        return "time_mixer.mix_factor"
    if temporal and name.startswith("time_stack."):
        return _residual_name(name)
    module, _, kind = name.rpartition(".")
    module = "conv_shortcut" if module == "nin_shortcut" else module if module in _VAE_RESIDUAL else ""
    return f"{'spatial_res_block.' if temporal else ''}{module}.{kind}" if module else None


def _adapter_name(name: str, taps: int, squeezes: int) -> str | None:
    if re.fullmatch(r"norm\.(weight|bias)", name):
        return name
    found = re.fullmatch(r"layer(\d+)(?:_(\d+))?(_cat)?\.(\d+\..+)", name)
    if found is None:
        return None
    layer, view, merge, rest = int(found[1]), found[2], found[3], found[4]
    if view is None:
        return f"trunk.{layer - taps - squeezes - 1}.{rest}"
    branch = f"branches.{int(view) - 1}"
    if merge:
        return f"{branch}.merges.{layer - 2}.{rest}"
    return f"{branch}.stages.{layer - 1}.{rest}" if layer <= taps else f"{branch}.squeeze.{layer - taps - 1}.{rest}"
