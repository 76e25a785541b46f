"""The denoising network: building it, running it up to the last feature map that is read, and loading it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, ClassVar, NamedTuple

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vpolicy_svd.fast import ResidualLayer, TransformerLayer, accelerate
from vpolicy_svd.loading import loaded_part
from vpolicy_svd.options import SvdOptions


def build_unet(options: SvdOptions) -> VideoUNet:
    """The network with the recipe's shape, and its weights where the recipe names some.

    Raises:
        WeightsError: The weights are unreachable, incomplete, or of another shape.
    """
    shape = options.unet
    make = partial(
        VideoUNet,
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
    decisive = ("num_attention_heads", "addition_time_embed_dim")
    model = loaded_part(make, weights, "unet", "The UNet", decisive, options.as_trained)
    if shape.norm_epsilon == "sgm":
        for name, module in model.named_modules():
            if isinstance(module, nn.GroupNorm) and ".attentions." not in name:
                module.eps = 1e-5
    accelerate(model)
    if options.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model


class Pass(NamedTuple):
    """What one pass through the network gives.

    Args:
        prediction: The network's own output ``(B, T, c, h, w)``; None where it was not asked for.
        taps: The feature maps ``(B T, C, h, w)`` that were asked for, by name.
        level: The embedding of the level ``(B, E)``.
    """

    prediction: Tensor | None
    taps: dict[str, Tensor]
    level: Tensor


class _Step(NamedTuple):
    """What happens between two feature maps that can be read.

    Args:
        tap: Name of the second one; empty where it cannot be read.
        layers: A residual layer, and the transformer layer behind it where there is one; None where the map only
            changes its size.
        resize: What halves or doubles the map; None where nothing does.
        side: ``down`` keeps the map for the way up, ``up`` reads the one that was kept last.
    """

    tap: str
    layers: tuple[nn.Module, nn.Module | None] | None
    resize: nn.Module | None
    side: str


class VideoUNet(UNetSpatioTemporalConditionModel):
    """diffusers' network of `UNetSpatioTemporalConditionModel` with a forward pass of our own over its layers.

    Feature maps are results and not side effects, and nothing behind the last one is run, by plain code: which steps
    there are depends on the names that are asked for and on no number, so the pass compiles as a whole and can be
    captured as a graph. Names of weights are diffusers'. Layers are called as modules, diffusers' blocks only hold
    them.
    """

    repeated_layers: ClassVar[tuple[type[nn.Module], ...]] = (ResidualLayer, TransformerLayer)
    """Of which the network consists: see `videopolicy.contracts.measured.RepeatedLayers`."""

    gradient_checkpointing: bool = False
    """Whether every pair of a residual and a transformer layer is computed again in the backward pass; what is kept
    of it are its inputs. diffusers' `enable_gradient_checkpointing` sets it."""

    def forward(
        self,
        clips: Tensor,
        level: Tensor,
        text: Tensor,
        ids: Tensor,
        taps: Sequence[str] = (),
        predict: bool = True,
    ) -> Pass:
        """Run the network as far as it is needed.

        Args:
            clips: ``(B, T, 2 c, h, w)``, noisy latents and the condition's; h and w can be halved on every level.
            level: ``(B,)``, a quarter of the noise level's logarithm.
            text: ``(B, L, D)``, or ``(B, T, L, D)`` where frames have texts of their own; attention over time reads
                the first frame's, as in Stable Video Diffusion's first code base.
            ids: ``(B, 3)`` as in `vpolicy_svd.backbone.SvdCondition`.
            taps: Names as `vpolicy_svd.components.Svd.taps` has them.
            predict: Whether the network's output is wanted; without it the pass ends at the last tap.
        """
        batch, frames = clips.shape[:2]
        level_embedding = self.time_embedding(self.time_proj(level).to(clips.dtype))
        numbers = self.add_time_proj(ids.flatten()).unflatten(0, (batch, -1)).flatten(1)
        embedding = level_embedding + self.add_embedding(numbers.to(level_embedding.dtype))
        embedding = embedding.repeat_interleave(frames, dim=0)
        text = text.flatten(0, 1) if text.ndim == 4 else text.repeat_interleave(frames, dim=0)

        steps = list(self._steps())
        if not predict:
            names = [step.tap for step in steps]
            steps = steps[: max((names.index(tap) + 1 for tap in taps), default=0)]
        shape = clips.new_empty(batch, frames)
        found: dict[str, Tensor] = {}
        maps = self.conv_in(clips.flatten(0, 1)) if steps else clips
        kept = [maps]
        for step in steps:
            if step.layers is not None:
                inputs = (maps, kept.pop()) if step.side == "up" else (maps,)
                maps = self._layered(*step.layers, inputs, embedding, text, shape)
            elif step.resize is not None:
                maps = step.resize(maps)
            if step.side == "down":
                kept.append(maps)
            if step.tap in taps:
                found[step.tap] = maps
        if not predict:
            return Pass(None, found, level_embedding)
        output = self.conv_out(self.conv_act(self.conv_norm_out(maps)))
        return Pass(output.unflatten(0, (batch, frames)), found, level_embedding)

    def _steps(self) -> Iterator[_Step]:
        """All steps of a pass, in order."""
        for index, block in enumerate(self.down_blocks):
            for number, layers in enumerate(_layers(block)):
                yield _Step(f"down{index}.{number}", layers, None, "down")
            if block.downsamplers is not None:
                yield _Step(f"down{index}.downsample", None, block.downsamplers[0], "down")
        *first, last = _layers(self.mid_block)
        for layers in first:
            yield _Step("", layers, None, "middle")
        yield _Step("mid", last, None, "middle")
        for index, block in enumerate(self.up_blocks):
            for number, layers in enumerate(_layers(block)):
                yield _Step(f"up{index}.{number}", layers, None, "up")
            resize = block.upsamplers[0] if block.upsamplers is not None else None
            yield _Step(f"up{index}", None, resize, "up")

    def _layered(
        self, residual: nn.Module, attention: nn.Module | None, inputs: tuple[Tensor, ...], *around: Tensor
    ) -> Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            # Nothing is drawn inside, so no generator's state has to be kept and set.
            found: Tensor = checkpoint(
                _layer, residual, attention, inputs, *around, use_reentrant=False, preserve_rng_state=False
            )
            return found
        return _layer(residual, attention, inputs, *around)


def _layers(block: Any) -> list[tuple[nn.Module, nn.Module | None]]:
    """A block's residual layers with the transformer layers behind them."""
    return list(zip_longest(block.resnets, getattr(block, "attentions", ())))


def _layer(
    residual: nn.Module,
    attention: nn.Module | None,
    inputs: tuple[Tensor, ...],
    embedding: Tensor,
    text: Tensor,
    shape: Tensor,
) -> Tensor:
    """A residual layer and the transformer layer behind it, if there is one.

    Args:
        residual, attention: The layers.
        inputs: Maps ``(B T, C, h, w)``, whose channels stand one behind the other.
        embedding: ``(B T, E)``.
        text: ``(B T, L, D)``.
        shape: ``(B, T)``, whose numbers are not read.
    """
    maps = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]
    maps = residual(maps, embedding, shape)
    return maps if attention is None else attention(maps, text, shape)[0]
