"""Latents that VPP publishes in place of videos: one tensor a file, as torch saves it."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from videopolicy import DataError

USUAL = 0.75
"""Deviation of latents of pictures that were multiplied with the autoencoder's scaling factor."""
_LEAST, _MOST = 0.3, 1.9
"""Of short clips, too; those without the factor have about 4.1, those that have it twice 0.14."""
_AGAIN = "Download the latents again, or set `frames: videos`."


def read_latents(path: Path) -> Tensor:
    """The latents of one video ``(frames, c, h, w)`` float32; nothing that the file names is run.

    Raises:
        DataError: They are something else, or on another scale.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{path} names code besides a tensor, which is not run.", _AGAIN) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise DataError(f"The latents {path} are damaged: {reason}.", _AGAIN) from error
    if not isinstance(found, Tensor) or found.ndim != 4 or found.dtype != torch.float32 or not len(found):
        what = f"{tuple(found.shape)} of {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise DataError(f"{path} holds {what}, not latents (frames, channels, height, width) of float32.", _AGAIN)
    deviation = float(found.std())
    if not _LEAST <= deviation <= _MOST:  # nor is NaN
        raise DataError(
            f"The latents {path} have a deviation of {deviation:.3g}, where it is about {USUAL}.",
            "Multiply them with the autoencoder's scaling factor (0.18215) once.",
        )
    return found


def count_latents(path: Path) -> int:
    """Of how many frames there are latents.

    Raises:
        DataError: As `read_latents`.
    """
    return len(read_latents(path))
