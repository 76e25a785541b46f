"""Latents that need no weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from videopolicy.parts.options import Options

if TYPE_CHECKING:
    from torch import Tensor


class SpaceToDepthLatent(Options):
    """Pixels rearranged: every patch becomes the channels of one latent cell. No weights, no loss of detail.

    Args:
        patch: Side of a patch in pixels.
        scaling_factor: What pixels in [-1, 1] are multiplied with. Robot images have a standard deviation of about
            0.5, and a diffusion expects about 1.
    """

    type: Literal["space-to-depth"] = "space-to-depth"
    patch: int = Field(8, ge=1)
    scaling_factor: float = 2.0

    @property
    def latent_channels(self) -> int:
        return 3 * self.patch**2

    def encode(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` in [-1, 1] to scaled latents ``(N, 3 p p, H/p, W/p)``."""
        return self.cells(images) * self.scaling_factor

    def cells(self, images: Tensor) -> Tensor:
        """The same without the scale."""
        from torch.nn import functional

        return functional.pixel_unshuffle(images, self.patch)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents ``(N, 3 p p, H/p, W/p)`` to images ``(N, 3, H, W)`` in [-1, 1]."""
        from torch.nn import functional

        return functional.pixel_shuffle(latents / self.scaling_factor, self.patch)
