"""Compares predicted with real frames, clip after clip."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import linalg
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from videopolicy.errors import VpolicyError
from videopolicy.quality.networks import (
    FEWEST_FRAMES,
    SHORTEST_CLIP,
    SMALLEST_IMAGE,
    Networks,
    VideoFeatures,
    fvd_network,
    lpips_network,
    repetitions,
)

SSIM_WINDOW = 11
"""Height and width of the Gaussian window of SSIM (Wang et al., 2004)."""


class Meters:
    """All metrics over all clips.

    PSNR is that of the mean squared error over all frames, so that a frame which is predicted perfectly does not make
    it infinite. SSIM and LPIPS are means over frames. FVD compares videos that end before their episode does, of future
    frames; where these are too few for its network, each is repeated (see `networks.repetitions`).

    Args:
        networks: Those of LPIPS and FVD, where they are wanted.
        device: Where everything is computed.
    """

    def __init__(self, networks: Networks, device: torch.device) -> None:
        self._device = device
        self._lpips: nn.Module | None = lpips_network(networks.lpips).to(device) if networks.lpips else None
        self._fvd: VideoFeatures | None = fvd_network(networks.fvd, networks.trust, device) if networks.fvd else None
        self._pixels: dict[str, Metric] = {}
        self._distances: list[Tensor] = []
        self._features: dict[str, list[np.ndarray]] = {"predicted": [], "real": []}

    @property
    def videos(self) -> int:
        """Videos that FVD compares."""
        return sum(map(len, self._features["real"]))

    @torch.inference_mode()
    def update(self, predicted: Tensor, real: Tensor, present: Tensor, mask: Tensor) -> None:
        """Count some clips.

        Args:
            predicted, real: ``(B, V, F, 3, H, W)`` uint8.
            present: ``(B, V, 1, 3, H, W)`` uint8, the frame before them.
            mask: ``(B, F)``, whether an episode had that frame.

        Raises:
            VpolicyError: A network cannot take frames of this size, or clips of this length.
        """
        self._ensure_size(predicted)
        chosen = mask.to(self._device)[:, None].expand(predicted.shape[:3])
        frames, still, truth = (
            clip.to(self._device).expand_as(predicted)[chosen].float() for clip in (predicted, present, real)
        )
        if len(truth):
            for suffix, shown in (("", frames), ("_still", still)):
                self._metric(f"psnr{suffix}", PeakSignalNoiseRatio(data_range=255.0)).update(shown, truth)
                if min(truth.shape[-2:]) >= SSIM_WINDOW:
                    ssim = StructuralSimilarityIndexMeasure(data_range=255.0)
                    self._metric(f"ssim{suffix}", ssim).update(shown, truth)
            if self._lpips is not None:
                distances = self._lpips(frames / 127.5 - 1, truth / 127.5 - 1)
                self._distances.append(distances.flatten().double().cpu())
        if self._fvd is not None and (whole := mask.all(1)).any():
            for name, clips in (("predicted", predicted), ("real", real)):
                videos = clips[whole.to(clips.device)].flatten(0, 1).transpose(1, 2).to(self._device).float()
                videos = videos.repeat_interleave(repetitions(videos.shape[2]), dim=2)
                features = self._fvd(videos, rescale=True, resize=True, return_features=True)
                self._features[name].append(features.double().cpu().numpy())

    def values(self) -> dict[str, float]:
        """The metrics by name; one that has no value, such as PSNR without any error, is left out."""
        found = {name: float(metric.compute()) for name, metric in self._pixels.items()}
        if self._distances:
            found["lpips"] = float(torch.cat(self._distances).mean())
        if self.videos > 1:
            found["fvd"] = frechet_distance(*(np.concatenate(self._features[name]) for name in ("predicted", "real")))
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _metric(self, name: str, new: Metric) -> Metric:
        return self._pixels.setdefault(name, new.to(self._device))

    def _ensure_size(self, predicted: Tensor) -> None:
        frames, size = predicted.shape[2], min(predicted.shape[-2:])
        if self._lpips is not None and size < SMALLEST_IMAGE:
            raise VpolicyError(
                f"LPIPS needs pictures of {SMALLEST_IMAGE} pixels at least; the model predicts {size}.",
                "Leave --lpips-weights out.",
            )
        if self._fvd is not None and frames < SHORTEST_CLIP:
            raise VpolicyError(
                f"FVD needs {FEWEST_FRAMES} frames at least; the model predicts {frames}.",
                f"Predict {SHORTEST_CLIP} frames or more, which are repeated where they are fewer than {FEWEST_FRAMES},"
                " or leave --fvd-weights out.",
            )


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Fréchet distance between normal distributions with the mean and covariance of features ``(N, D)`` and ``(M, D)``.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Unterthiner et al., 2018). With ``Ci = Xi^T Xi`` the last trace is
    the sum of the singular values of ``X1 X2^T``, which stays exact where there are fewer videos than dimensions and a
    square root of the covariances' product is ill-conditioned.
    """
    means = [values.mean(0) for values in (features, others)]
    centred = [
        (values - mean) / math.sqrt(len(values) - 1) for values, mean in zip((features, others), means, strict=True)
    ]
    spread = sum(float(np.square(one).sum()) for one in centred)
    common = float(linalg.svdvals(centred[0] @ centred[1].T).sum())
    return float(np.square(means[0] - means[1]).sum()) + spread - 2 * common
