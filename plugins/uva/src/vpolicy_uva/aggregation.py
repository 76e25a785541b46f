"""Features condensed to one latent an action (``unified_video_action/model/autoregressive/diffusion_action_loss.py``).

The official code has 4 frames of 16 x 16 tokens and 16 actions as literals; here they come from the features' layout
and the horizon.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from videopolicy import FeatureLayout
from vpolicy_uva.options import Aggregation

POOLED = 4
"""Side of the grid that `ConvFc` pools frames to."""


class ConvFc(nn.Module):
    """A convolution and pooling in every frame, one vector a frame, and a linear map over frames.

    Several views count as further frames.
    """

    def __init__(self, layout: FeatureLayout, horizon: int) -> None:
        super().__init__()
        width, self.layout = layout.dim, layout
        frames = math.prod(size for name, size in layout.axes if name not in ("height", "width"))
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(POOLED)
        self.fc = nn.Sequential(nn.Linear(width * POOLED**2, width), nn.ReLU(), nn.Linear(width, width))
        self.interpolate = nn.Linear(frames, horizon)
        self.refine = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        maps = _unfolded(tokens, self.layout, ("height", "width")).permute(0, 1, 4, 2, 3)
        pooled = self.pool(self.act(self.conv(maps.flatten(0, 1))))
        frames = self.fc(pooled.flatten(1)).unflatten(0, maps.shape[:2])
        return self.refine(self.interpolate(frames.transpose(1, 2)).transpose(1, 2))


class ConvOri(nn.Module):
    """A transposed convolution over frames, and the mean over all else.

    The official code convolves first; the mean of a linear map is the map of the mean, which is cheaper.
    """

    def __init__(self, layout: FeatureLayout, horizon: int) -> None:
        super().__init__()
        self.layout, stride = layout, horizon // dict(layout.axes).get("frames", 1)
        self.upsample = nn.ConvTranspose3d(layout.dim, layout.dim, (stride, 1, 1), (stride, 1, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        if self.layout.has("frames"):
            frames = _unfolded(tokens, self.layout, ("frames",)).mean(dim=1)
        else:
            frames = tokens.mean(dim=1, keepdim=True)
        return self.upsample(frames.transpose(1, 2)[..., None, None]).flatten(2).transpose(1, 2)


class Conv2(nn.Module):
    """Two convolutions along the width of the tokens, which are its channels."""

    def __init__(self, layout: FeatureLayout, horizon: int) -> None:
        super().__init__()
        hidden = max(layout.tokens // 4, horizon)
        self.conv = nn.Sequential(
            nn.Conv1d(layout.tokens, hidden, 7, padding=3), nn.ReLU(), nn.Conv1d(hidden, horizon, 7, padding=3)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.conv(tokens)


class Fc2(nn.Module):
    """Two linear maps over the tokens."""

    def __init__(self, layout: FeatureLayout, horizon: int) -> None:
        super().__init__()
        hidden = max(layout.tokens // 4, horizon)
        self.fc = nn.Sequential(nn.Linear(layout.tokens, hidden), nn.ReLU(), nn.Linear(hidden, horizon))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(tokens.transpose(1, 2)).transpose(1, 2)


def aggregation(name: Aggregation, layout: FeatureLayout, horizon: int) -> nn.Module:
    """The map from tokens ``(B, N, D)`` to latents ``(B, H, D)``."""
    return {"conv_fc": ConvFc, "conv_ori": ConvOri, "conv2": Conv2, "fc2": Fc2}[name](layout, horizon)


def _unfolded(tokens: Tensor, layout: FeatureLayout, last: tuple[str, ...]) -> Tensor:
    """Tokens ``(B, N, D)`` as ``(B, all other axes, *last, D)``."""
    names = [name for name, _ in layout.axes]
    unfolded = tokens.unflatten(1, [size for _, size in layout.axes])
    moved = unfolded.movedim([1 + names.index(name) for name in last], list(range(-1 - len(last), -1)))
    return moved.flatten(1, -2 - len(last)) if len(names) > len(last) else moved.unsqueeze(1)
