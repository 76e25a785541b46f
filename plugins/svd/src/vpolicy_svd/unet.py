"""The denoising network: building it, loading it, and reading feature maps out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from vpolicy_svd.loading import loaded_part
from vpolicy_svd.options import SvdOptions

if TYPE_CHECKING:
    from diffusers import UNetSpatioTemporalConditionModel


def build_unet(options: SvdOptions) -> UNetSpatioTemporalConditionModel:
    """diffusers' UNet with the recipe's shape, and its weights where the recipe names some.

    Raises:
        WeightsError: The weights are unreachable, incomplete, or of another shape.
    """
    from diffusers import UNetSpatioTemporalConditionModel

    from vpolicy_svd.fast import accelerate

    shape = options.unet
    make = partial(
        UNetSpatioTemporalConditionModel,
        sample_size=options.latent_grid,
        in_channels=2 * options.latent.latent_channels,
        out_channels=options.latent.latent_channels,
        down_block_types=tuple("CrossAttn" * a + "DownBlockSpatioTemporal" for a in shape.attention),
        up_block_types=tuple("CrossAttn" * a + "UpBlockSpatioTemporal" for a in reversed(shape.attention)),
        block_out_channels=shape.channels,
        layers_per_block=shape.layers,
        transformer_layers_per_block=shape.transformer_layers,
        num_attention_heads=shape.heads,
        cross_attention_dim=options.cross_attention_dim,
        addition_time_embed_dim=shape.time_ids_width,
        projection_class_embeddings_input_dim=3 * shape.time_ids_width,
        num_frames=options.frames,
    )
    weights = options.weights if options.unet_start == "weights" else None
    model = loaded_part(make, weights, "unet", "The UNet", ("num_attention_heads", "addition_time_embed_dim"))
    if shape.norm_epsilon == "sgm":
        for name, module in model.named_modules():
            if isinstance(module, nn.GroupNorm) and ".attentions." not in name:
                module.eps = 1e-5
    accelerate(model)
    if options.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model


class _LastTapReachedError(Exception):
    """Ends a forward pass once everything asked for has been read."""


@contextmanager
def reading(unet: UNetSpatioTemporalConditionModel, taps: Sequence[str], stop: bool) -> Iterator[dict[str, Tensor]]:
    """Collect feature maps while a forward pass runs inside the ``with``.

    diffusers' forward stays as it is: hooks collect, and with ``stop`` the hook on the last tap ends the
    pass, so that the blocks behind it and the output convolution are never run.

    Args:
        unet: The network.
        taps: Names as `vpolicy_svd.components.Svd.taps` has them.
        stop: Whether to end the pass at the last tap; the network's own result is then lost.

    Yields:
        A mapping that fills while the pass runs: per tap ``(B * T, C, h, w)``, and under ``time`` the
        embedding of the level ``(B, E)``.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found[name] = output[0] if isinstance(output, tuple) else output
            if stop and all(tap in found for tap in taps):
                raise _LastTapReachedError

        return hook

    blocks = {name: tapped(unet, name) for name in taps} | {"time": unet.time_embedding}
    handles = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    try:
        with suppress(_LastTapReachedError):
            yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def text_of_frames(unet: UNetSpatioTemporalConditionModel, text: Tensor) -> Iterator[None]:
    """Let every frame of a clip read a text of its own while a forward pass runs inside the ``with``.

    diffusers repeats one text over the frames of a clip before it reaches the blocks; here the blocks are
    given others. Attention over time reads the first frame's, there as in the first code base.

    Args:
        unet: The network.
        text: ``(B * T, L, D)``.
    """

    def replace(module: nn.Module, inputs: Any, named: dict[str, Any]) -> Any:
        return inputs, {**named, "encoder_hidden_states": text}

    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    handles = [
        block.register_forward_pre_hook(replace, with_kwargs=True) for block in blocks if hasattr(block, "attentions")
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tapped(unet: UNetSpatioTemporalConditionModel, tap: str) -> nn.Module:
    """The module whose output a tap is."""
    if tap == "mid":
        return unet.mid_block
    name, _, layer = tap.partition(".")
    blocks = unet.down_blocks if name.startswith("down") else unet.up_blocks
    block = blocks[int(name.removeprefix("down").removeprefix("up"))]
    if layer == "":
        return block
    if layer == "downsample":
        return block.downsamplers[0]
    return (block.attentions if hasattr(block, "attentions") else block.resnets)[int(layer)]
