"""What the shapes of an official checkpoint say about its architecture, and the names that such modules have.

Modules are built on the meta device: names and shapes, no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vpolicy_video_policy.importing.names import adapter_depths, count, unet_layers, vae_levels

State = Mapping[str, Tensor]

# Of every bottleneck of the adapter; one that changes width or grid has a `downsample` besides.
_BOTTLENECK = (
    *("emb_layers.1.weight", "emb_layers.1.bias", "conv1.0.weight", "conv1.1.weight", "conv1.1.bias"),
    *("conv2.0.weight", "conv2.1.weight", "conv2.1.bias", "conv3.0.weight", "conv3.1.weight", "conv3.1.bias"),
)


def unet_twin(state: State) -> tuple[set[str], dict[str, Any]]:
    """Names of diffusers' UNet of the same sizes, and these sizes as options of `svd`'s ``unet``.

    Raises:
        KeyError: A tensor that shows a size is missing.
    """
    from diffusers import UNetSpatioTemporalConditionModel

    layers = unet_layers(state)
    levels = (count(r"input_blocks\.(\d+)\.", state) - 1 + layers) // (layers + 1)
    firsts = [f"input_blocks.{1 + level * (layers + 1)}" for level in range(levels)]
    channels = [state[f"{first}.0.out_layers.3.weight"].shape[0] for first in firsts]
    attention = [f"{first}.1.norm.weight" in state for first in firsts]
    depth = count(r"middle_block\.1\.transformer_blocks\.(\d+)\.", state)
    text = state["middle_block.1.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    ids = state["label_emb.0.0.weight"].shape[1]
    with torch.device("meta"):
        twin = UNetSpatioTemporalConditionModel(
            in_channels=state["input_blocks.0.0.weight"].shape[1],
            out_channels=state["out.2.weight"].shape[0],
            down_block_types=tuple("CrossAttn" * a + "DownBlockSpatioTemporal" for a in attention),
            up_block_types=tuple("CrossAttn" * a + "UpBlockSpatioTemporal" for a in reversed(attention)),
            block_out_channels=tuple(channels),
            layers_per_block=layers,
            transformer_layers_per_block=depth,
            num_attention_heads=1,  # says nothing about names and shapes
            cross_attention_dim=text,
            addition_time_embed_dim=ids // 3,
            projection_class_embeddings_input_dim=ids,
        )
    shape = {
        "channels": channels,
        "attention": attention,
        "layers": layers,
        "transformer_layers": depth,
        "time_ids_width": ids // 3,
    }
    return set(twin.state_dict()), shape


def vae_twin(state: State) -> tuple[set[str], dict[str, Any]]:
    """Names of diffusers' autoencoder of the same sizes, and these sizes as options of `svd`'s ``latent``.

    Raises:
        KeyError: A tensor that shows a size is missing.
    """
    from diffusers import AutoencoderKLTemporalDecoder

    levels, layers = vae_levels(state), count(r"encoder\.down\.0\.block\.(\d+)\.", state)
    channels = [state[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)]
    latents = state["decoder.conv_in.weight"].shape[1]
    with torch.device("meta"):
        twin = AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * levels,
            block_out_channels=tuple(channels),
            layers_per_block=layers,
            latent_channels=latents,
        )
    return set(twin.state_dict()), {"channels": channels, "layers": layers, "latent_channels": latents}


def adapter_gaps(state: State) -> list[str]:
    """Names that an adapter should have: all layers up to the last, alike in all views, with whole bottlenecks."""
    taps, squeezes = adapter_depths(state)
    views = count(r"layer1_(\d+)\.", state) - 1
    last = count(r"layer(\d+)\.", state) - 1
    layers = [f"layer{n}_{v}" for v in range(1, views + 1) for n in range(1, taps + squeezes + 1)]
    layers += [f"layer{n}_{v}_cat" for v in range(1, views + 1) for n in range(2, taps + 1)]
    layers += [f"layer{n}" for n in range(taps + squeezes + 1, last + 1)]
    wanted = ["norm.weight", "norm.bias"]
    for layer in layers:
        blocks = max(count(rf"{layer}\.(\d+)\.", state), 1)
        wanted += [f"{layer}.{block}.{name}" for block in range(blocks) for name in _BOTTLENECK]
    return [name for name in wanted if name not in state]


def actions_twin(state: State) -> set[str]:
    """Names of the action network of the same sizes.

    Raises:
        KeyError: A tensor that shows a size is missing.
    """
    from vpolicy_video_policy.action_unet import ConditionalUNet
    from vpolicy_video_policy.components import ActionUNet

    levels = count(r"down_modules\.(\d+)\.", state)
    first = "down_modules.{}.0.blocks.0.block.0.weight"
    widths = tuple(state[first.format(level)].shape[0] for level in range(levels))
    step, embedding = state["diffusion_step_encoder.1.weight"].shape
    conditioning = state["mid_modules.0.cond_encoder.1.weight"].shape[1]
    options = ActionUNet.model_construct(
        down_dims=widths, kernel=state[first.format(0)].shape[2], groups=1, step_dim=step
    )
    with torch.device("meta"):
        twin = ConditionalUNet(options, state["final_conv.1.weight"].shape[0], conditioning - step, embedding)
    return set(twin.state_dict())
