"""The layers of diffusers' autoencoder, computed with fewer passes over memory; the numbers are the same.

The channels of a pixel lie side by side (``channels_last``), which convolutions on a processor take without
rearranging, and where nothing is learned activations and sums are made in place: at the first level of a 256-pixel
image every new tensor is 32 MiB of memory to ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


def accelerate(autoencoder: AutoencoderKL) -> None:
    """Let the layers of an autoencoder compute as this module does. Names and weights stay as they are."""
    for module in autoencoder.modules():
        if type(module) is ResnetBlock2D:
            module.__class__ = ResidualLayer
        elif isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)


class ResidualLayer(ResnetBlock2D):
    """A residual block of an autoencoder, which has no embedding of a noise level and no dropout."""

    def forward(self, input_tensor: Tensor, temb: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        """``(B, C, H, W)``."""
        if torch.is_grad_enabled():
            return super().forward(input_tensor, temb, *args, **kwargs)
        hidden = self.conv1(functional.silu(self.norm1(input_tensor), inplace=True))
        hidden = self.conv2(functional.silu(self.norm2(hidden), inplace=True))
        return hidden.add_(input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor))
