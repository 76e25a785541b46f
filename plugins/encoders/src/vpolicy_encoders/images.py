"""From a camera's images to what an encoder sees."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from vpolicy_encoders.options import Encoder

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def seen(images: Tensor, options: Encoder, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """Resized, cut out and scaled.

    Args:
        images: ``(N, 3, H, W)`` bytes.
        options: Sizes and interpolation.
        mean, deviation: Of the channels, for values in [0, 1].

    Returns:
        ``(N, 3, *image_size)`` in single precision.
    """
    how = InterpolationMode(options.interpolation)
    images = v2.functional.resize(images, list(options.resize or options.image_size), how, antialias=True)
    if options.resize is not None:
        images = v2.functional.center_crop(images, list(options.image_size))
    return v2.functional.normalize(images.float() / 255, list(mean), list(deviation))
