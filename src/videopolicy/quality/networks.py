"""The networks behind LPIPS and FVD, from files that the user has: nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from videopolicy.errors import WeightsError, listing
from videopolicy.importing.reading import read_checkpoint
from videopolicy.paths import ensure_regular
from videopolicy.storage.files import file_digest

SMALLEST_IMAGE = 32
"""Height and width in pixels below which AlexNet's pooling has nothing left."""
FEWEST_FRAMES = 10
"""Frames below which the I3D network's pooling over time has nothing left."""
STRETCHED_FRAMES = 16
"""Frames at least of a shorter clip whose frames are repeated, which are those that FVD is usually measured on."""
SHORTEST_CLIP = 4
"""Frames of the shortest clip that is stretched, the fewest of a published figure: the training code of arXiv
2503.00200 shows each of 4 frames four times (``eval/fvd``)."""


def repetitions(frames: int) -> int:
    """How often FVD is shown each frame of a clip: 1 where there are enough of them."""
    return 1 if frames >= FEWEST_FRAMES else -(-STRETCHED_FRAMES // frames)


@dataclass(frozen=True)
class Networks:
    """Where the networks' weights are.

    Args:
        lpips: AlexNet's, as torchvision publishes them (``alexnet-owt-7be5be79.pth``) or as safetensors under the same
            names.
        fvd: The I3D network that is used for FVD, ``i3d_torchscript.pt``.
        trust: Whether the code in that file may run.
    """

    lpips: Path | None = None
    fvd: Path | None = None
    trust: bool = False

    def files(self) -> dict[str, Path]:
        """Files by the metric that needs them."""
        return {name: path for name, path in (("lpips", self.lpips), ("fvd", self.fvd)) if path is not None}

    def digests(self) -> dict[str, str]:
        """Their SHA-256, by metric.

        Raises:
            WeightsError: There is no such file.
        """
        return {name: _digest(path) for name, path in self.files().items()}


class VideoFeatures(Protocol):
    """The interface of ``i3d_torchscript.pt``."""

    def __call__(self, videos: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        """Features ``(N, D)`` of videos ``(N, 3, T, H, W)`` in [0, 255]; it scales and resizes them itself."""
        ...


def lpips_network(path: Path) -> nn.Module:
    """LPIPS version 0.1 with AlexNet (Zhang et al., 2018), for two batches of images ``(N, 3, H, W)`` in [-1, 1].

    The weights on top of AlexNet are the authors', which torchmetrics carries.

    Raises:
        WeightsError: The file cannot be read, or is not AlexNet.
    """
    # The public class would download AlexNet; this one behind it takes weights that are put in afterwards.
    from torchmetrics.functional.image.lpips import _LPIPS

    network = _LPIPS(pretrained=True, net="alex", pnet_rand=True)
    found = read_checkpoint(path).tensors()
    wanted = network.net.state_dict()
    theirs = {name: f"features.{name.partition('.')[2]}" for name in wanted}  # slice2.3.weight: features.3.weight
    misfits = [
        other for name, other in theirs.items() if other not in found or found[other].shape != wanted[name].shape
    ]
    if misfits:
        raise WeightsError(
            f"{path} does not hold AlexNet: missing or of another shape are {listing(misfits, 4)}.",
            "Give torchvision's weights of AlexNet, alexnet-owt-7be5be79.pth.",
        )
    network.net.load_state_dict({name: found[other] for name, other in theirs.items()})
    return network.eval().requires_grad_(False)


def fvd_network(path: Path, trust: bool, device: torch.device) -> VideoFeatures:
    """The I3D network of Carreira and Zisserman (2017) as StyleGAN-V has published it for FVD.

    Raises:
        WeightsError: The file cannot be read, or its code is not trusted.
    """
    if not trust:
        raise WeightsError(
            f"{path} is a TorchScript program, which can do anything that you can do.",
            "Add --trust if you trust where you have it from.",
        )
    try:
        return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{path} is no TorchScript program: {reason}", "Give the file i3d_torchscript.pt that StyleGAN-V names."
        ) from error


def _digest(path: Path) -> str:
    give = "Give the path of a downloaded file."
    ensure_regular(path, WeightsError, give)
    try:
        return file_digest(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.", give) from None
