"""The denoising network: building it, loading it, and reading feature maps out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from vpolicy_svd.loading import load_part

if TYPE_CHECKING:
    from diffusers import UNetSpatioTemporalConditionModel

    from vpolicy_svd.components import Svd


def build_unet(options: Svd) -> UNetSpatioTemporalConditionModel:
    """diffusers' UNet with the recipe's shape, and its weights where the recipe names some.

    Raises:
        WeightsError: The weights are unreachable, incomplete, or of another shape.
    """
    from diffusers import UNetSpatioTemporalConditionModel

    shape = options.unet
    model = UNetSpatioTemporalConditionModel(
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
    load_part(model, options.weights, "unet", "The UNet", ("num_attention_heads", "addition_time_embed_dim"))
    if options.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model


class _LastTapReachedError(Exception):
    """Ends a forward pass once everything asked for has been read."""


@contextmanager
def reading(unet: UNetSpatioTemporalConditionModel, taps: Sequence[str], stop: bool) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of up blocks while a forward pass runs inside the ``with``.

    diffusers' forward stays as it is: hooks collect, and with ``stop`` the hook on the last tap ends the
    pass, so that the blocks behind it and the output convolution are never run.

    Args:
        unet: The network.
        taps: Names such as ``up0``.
        stop: Whether to end the pass at the last tap; the network's own result is then lost.

    Yields:
        A mapping that fills while the pass runs: per tap ``(B * T, C, h, w)``, and under ``time`` the
        embedding of the level ``(B, E)``.
    """
    found: dict[str, Tensor] = {}
    last = max(taps, key=_index) if taps else None

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found[name] = output
            if stop and name == last:
                raise _LastTapReachedError

        return hook

    blocks = {name: unet.up_blocks[_index(name)] for name in taps} | {"time": unet.time_embedding}
    handles = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    try:
        with suppress(_LastTapReachedError):
            yield found
    finally:
        for handle in handles:
            handle.remove()


def _index(tap: str) -> int:
    return int(tap.removeprefix("up"))
