"""Names of the tensors in official checkpoints, written down from the construction of their modules (``sgm``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

WB = ("weight", "bias")


def _pairs(place: str, *modules: str) -> Iterator[str]:
    yield from (f"{place}{module}.{kind}" for module in modules for kind in WB)


def _residual(place: str, skip: bool) -> Iterator[str]:
    for half in (place, f"{place}time_stack."):
        yield from _pairs(half, "in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")
    if skip:
        yield from _pairs(place, "skip_connection")
    yield f"{place}time_mixer.mix_factor"


def _transformer(place: str) -> Iterator[str]:
    yield from _pairs(place, "norm", "proj_in", "proj_out", "time_pos_embed.0", "time_pos_embed.2")
    for block in (f"{place}transformer_blocks.0.", f"{place}time_stack.0."):
        for attention in ("attn1", "attn2"):
            yield from (f"{block}{attention}.to_{one}.weight" for one in "qkv")
            yield from _pairs(block, f"{attention}.to_out.0")
        yield from _pairs(block, "ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3")
    yield from _pairs(f"{place}time_stack.0.", "norm_in", "ff_in.net.0.proj", "ff_in.net.2")
    yield f"{place}time_mixer.mix_factor"


def unet(channels: Sequence[int], attention: Sequence[bool], layers: int) -> Iterator[str]:
    """``VideoUNet`` of as many levels as there are channels."""
    yield from _pairs("", "time_embed.0", "time_embed.2", "label_emb.0.0", "label_emb.0.2", "input_blocks.0.0")
    yield from _pairs("", "out.0", "out.2")
    index, width, last = 1, channels[0], len(channels) - 1
    for level, channel in enumerate(channels):
        for _ in range(layers):
            yield from _residual(f"input_blocks.{index}.0.", channel != width)
            if attention[level]:
                yield from _transformer(f"input_blocks.{index}.1.")
            index, width = index + 1, channel
        if level < last:
            yield from _pairs("", f"input_blocks.{index}.0.op")
            index += 1
    yield from _residual("middle_block.0.", False)
    yield from _transformer("middle_block.1.")
    yield from _residual("middle_block.2.", False)
    index = 0
    for level in range(last, -1, -1):
        for layer in range(layers + 1):
            yield from _residual(f"output_blocks.{index}.0.", True)
            if attention[level]:
                yield from _transformer(f"output_blocks.{index}.1.")
            if level and layer == layers:
                yield from _pairs("", f"output_blocks.{index}.{1 + attention[level]}.conv")
            index += 1


def _vae_residual(place: str, shortcut: bool, temporal: bool) -> Iterator[str]:
    yield from _pairs(place, "norm1", "conv1", "norm2", "conv2", *(["nin_shortcut"] if shortcut else []))
    if temporal:
        yield from _pairs(f"{place}time_stack.", "in_layers.0", "in_layers.2", "out_layers.0", "out_layers.3")
        yield f"{place}mix_factor"


def _vae_middle(place: str, temporal: bool) -> Iterator[str]:
    yield from _vae_residual(f"{place}mid.block_1.", False, temporal)
    yield from _pairs(f"{place}mid.attn_1.", "norm", "q", "k", "v", "proj_out")
    yield from _vae_residual(f"{place}mid.block_2.", False, temporal)


def encoder(channels: Sequence[int], layers: int) -> Iterator[str]:
    yield from _pairs("encoder.", "conv_in", "norm_out", "conv_out")
    yield from _vae_middle("encoder.", False)
    width = channels[0]
    for level, channel in enumerate(channels):
        for layer in range(layers):
            yield from _vae_residual(f"encoder.down.{level}.block.{layer}.", channel != width, False)
            width = channel
        if level < len(channels) - 1:
            yield from _pairs("", f"encoder.down.{level}.downsample.conv")


def decoder(channels: Sequence[int], layers: int, temporal: bool) -> Iterator[str]:
    yield from _pairs("decoder.", "conv_in", "norm_out", "conv_out")
    yield from _vae_middle("decoder.", temporal)
    width = channels[-1]
    for level in range(len(channels) - 1, -1, -1):
        for layer in range(layers + 1):
            yield from _vae_residual(f"decoder.up.{level}.block.{layer}.", channels[level] != width, temporal)
            width = channels[level]
        if level:
            yield from _pairs("", f"decoder.up.{level}.upsample.conv")
    if temporal:
        yield from _pairs("", "decoder.conv_out.time_mix_conv")


def openclip_text(layers: int) -> Iterator[str]:
    yield from ("token_embedding.weight", "positional_embedding", "text_projection", "logit_scale")
    yield from _pairs("", "ln_final")
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}."
        yield from (f"{block}attn.in_proj_{kind}" for kind in WB)
        yield from _pairs(block, "attn.out_proj", "ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj")
