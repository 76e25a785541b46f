"""Statistics as LeRobot keeps them of every feature, of each episode and of all."""

from __future__ import annotations

from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_BYTES = np.arange(256) / 255


def of_numbers(values: np.ndarray) -> dict[str, Any]:
    """Of ``(n, dimensions)``."""
    exact = values.astype(np.float64)
    return {
        "min": exact.min(0).tolist(),
        "max": exact.max(0).tolist(),
        "mean": exact.mean(0).tolist(),
        "std": exact.std(0).tolist(),
        "count": [len(exact)],
        **{name: np.quantile(exact, share, axis=0).tolist() for name, share in QUANTILES.items()},
    }


def counted(frames: np.ndarray) -> np.ndarray:
    """How often every value of every colour is in frames ``(n, height, width, 3)``, as ``(3, 256)``."""
    return np.stack([np.bincount(frames[..., colour].reshape(-1), minlength=256) for colour in range(3)])


def of_pixels(counts: np.ndarray, frames: int) -> dict[str, Any]:
    """Of pictures from 0 to 1, by how often every value is in them ``(3, 256)``."""
    share = counts / counts.sum(1, keepdims=True)
    mean = share @ _BYTES
    deviation = np.sqrt(np.maximum(share @ _BYTES**2 - mean**2, 0))
    reached = np.cumsum(share, axis=1)

    def at(part: float) -> np.ndarray:
        return _BYTES[np.argmax(reached >= part - 1e-12, axis=1)]

    values = {
        "min": _BYTES[np.argmax(counts > 0, axis=1)],
        "max": _BYTES[255 - np.argmax(counts[:, ::-1] > 0, axis=1)],
        "mean": mean,
        "std": deviation,
        **{name: at(part) for name, part in QUANTILES.items()},
    }
    return {**{name: one.reshape(3, 1, 1).tolist() for name, one in values.items()}, "count": [frames]}
