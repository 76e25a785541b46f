"""One frame's file, and the images of many of them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from videopolicy import DataError
from videopolicy.parts.files import ensure_data, system_reason

# What numpy and zipfile raise on damaged input: RuntimeError for a method of compression that does not exist.
_FOREIGN = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def frame_file(split: Path, frame: int) -> Path:
    """Where a frame lies."""
    return split / f"episode_{frame:07d}.npz"


def missing(path: Path) -> DataError:
    """What to say of a frame that is not there."""
    return DataError(
        f"The frame {path} is missing.", "Download this part of the data set again, or unpack it completely."
    )


@contextmanager
def opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """A frame's file, with one clear error for whatever is wrong with it or what is read from it."""
    if path.exists():
        ensure_data(path)
    try:
        with np.load(path, allow_pickle=False) as content:
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("not an npz archive")
            yield content
    except FileNotFoundError:
        raise missing(path) from None
    except _FOREIGN as error:
        if known := system_reason(getattr(error, "errno", None)):
            raise DataError(f"The frame {path} cannot be read: {known[0]}.", known[1]) from error
        reason = error.args[0] if isinstance(error, KeyError) and error.args else str(error) or repr(error)
        raise DataError(
            f"The frame {path} cannot be read: {reason}", "Download this part of the data set again."
        ) from error


def image_size(path: Path, camera: str) -> tuple[int, int]:
    """Height and width of a camera's images.

    Raises:
        DataError: The frame has no such images.
    """
    with opened(path) as content:
        if camera not in content.files:
            raise KeyError(f"it has no '{camera}', only {', '.join(content.files)}")
        image = content[camera]
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"'{camera}' has shape {image.shape} and type {image.dtype}, not (height, width, 3) bytes")
    return image.shape[0], image.shape[1]


class FramesOnDisk:
    """Images of recorded frames. Every batch reads what it needs.

    Args:
        split: Folder of the frames.
        frames: Number of the frame at every step, episode after episode.
        sizes: Height and width by camera.
    """

    def __init__(self, split: Path, frames: np.ndarray, sizes: Mapping[str, tuple[int, int]]) -> None:
        self._split = split
        self._frames = frames
        self._sizes = dict(sizes)

    def take(self, camera: str, indices: np.ndarray) -> Tensor:
        """The images at steps ``(K,)``, as ``(K, 3, height, width)`` uint8."""
        numbers, order = np.unique(self._frames[indices], return_inverse=True)
        images = np.stack([self._read(frame_file(self._split, int(number)), camera) for number in numbers])
        return torch.from_numpy(np.ascontiguousarray(images[order].transpose(0, 3, 1, 2)))

    def _read(self, path: Path, camera: str) -> np.ndarray:
        expected = (*self._sizes[camera], 3)
        with opened(path) as content:
            image = content[camera]
            if image.shape != expected or image.dtype != np.uint8:
                raise ValueError(f"'{camera}' has shape {image.shape} and type {image.dtype}, not {expected} bytes")
        return image
