"""What is said of images that are stored in another way than a reader of data reads them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def oddity(shape: tuple[int, ...], dtype: np.dtype, first: Callable[[], np.ndarray]) -> tuple[str, str] | None:
    """What is unusual about an array that should be ``(steps, height, width, 3)`` of bytes, and what to do.

    Args:
        shape, dtype: Of the array.
        first: Reads what is stored of the first step; called where the numbers matter.

    Returns:
        The end of a sentence, and a hint; None where nothing is known.
    """
    kind = dtype.kind
    if len(shape) == 4 and shape[1] == 3 and shape[3] != 3:
        return "its channels stand first", "Write it as (steps, height, width, 3): `transpose(0, 2, 3, 1)` in numpy."
    if len(shape) == 5:
        return (
            "it holds several cameras, or several frames of every step",
            "Write one array of (steps, height, width, 3) for every camera, and name them in `cameras`.",
        )
    if len(shape) == 4 and shape[3] == 4:
        return "it has a fourth channel", "Write it without the fourth channel: `[..., :3]` in numpy."
    if (len(shape) == 4 and shape[3] == 1) or (len(shape) == 3 and kind in "uif"):
        return "it has one channel, as grey and depth images have", "Choose a key of colour images for this camera."
    if len(shape) <= 2 and kind in "OSV":
        return "it may hold compressed pictures", "Write it decoded, as (steps, height, width, 3) of uint8."
    if len(shape) != 4 or shape[3] != 3 or dtype == np.uint8:
        return None
    if kind != "f":
        return "its numbers are no bytes", "Write it as uint8 from 0 to 255."
    brightest = float(np.nanmax(first(), initial=0))
    times = ", multiplied by 255 if they go from 0 to 1" if brightest <= 1 else ""
    return f"its first image has floats up to {brightest:.4g}", f"Write it as uint8 from 0 to 255{times}."
