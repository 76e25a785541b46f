"""The encoding half of an image autoencoder."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available

from videopolicy import WeightsError, read_checkpoint
from videopolicy.parts.weights import ensure_no_differences, explain_loading, pretrained_folder, without_loading
from vpolicy_encoders.options import AUTOENCODER, Autoencoder

_DECODING = ("decoder.", "post_quant_conv.")
_OLDER = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""What diffusers has called the layers of an attention before, as in the files of ``stabilityai/sd-vae-ft-mse``."""


class LatentEncoder(nn.Module):
    """See `vpolicy_encoders.options.Autoencoder`. Parameters have diffusers' names.

    Raises:
        WeightsError: The weights are unreachable, or of another autoencoder.
    """

    mean = deviation = (0.5, 0.5, 0.5)

    def __init__(self, options: Autoencoder) -> None:
        super().__init__()
        from diffusers.models.autoencoders.vae import Encoder

        self.options = options
        self.encoder = Encoder(
            out_channels=options.latent_channels,
            down_block_types=("DownEncoderBlock2D",) * len(options.channels),
            block_out_channels=options.channels,
            layers_per_block=options.layers,
        )
        self.quant_conv = nn.Conv2d(2 * options.latent_channels, 2 * options.latent_channels, 1)
        if options.weights is not None and not without_loading():
            self._load(options.weights)

    def forward(self, pixels: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [-1, 1] to ``(N, h w, c)``; in single precision whatever is around it."""
        with self._precisely(pixels):
            mean, _ = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return (mean * self.options.scaling_factor).flatten(2).transpose(1, 2)

    def _precisely(self, like: Tensor) -> AbstractContextManager[object]:
        kind = like.device.type
        return torch.autocast(kind, enabled=False) if is_autocast_available(kind) else nullcontext()

    def _load(self, weights: str) -> None:
        files, options = self.options.files, self.options
        folder = pretrained_folder(weights, AUTOENCODER, files)
        with explain_loading(folder, AUTOENCODER, files):
            config = json.loads((folder / files[0]).read_text(encoding="utf-8"))
            state = {_renamed(name): value for name, value in read_checkpoint(folder / files[1]).tensors().items()}
            state = {name: value for name, value in state.items() if not name.startswith(_DECODING)}
            own = self.state_dict()
            ensure_no_differences(str(folder / files[1]), own.keys() - state.keys(), state.keys() - own.keys())
            theirs = config.get("scaling_factor", options.scaling_factor)
            if theirs != options.scaling_factor:
                raise WeightsError(
                    f"{AUTOENCODER} in {folder} scales latents by {theirs}, the recipe by {options.scaling_factor}.",
                    f"Set scaling_factor: {theirs}.",
                )
            self.load_state_dict(state)


def _renamed(name: str) -> str:
    for older, newer in _OLDER.items():
        name = name.replace(older, newer)
    return name
