"""Frames of videos, decoded with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from videopolicy import DataError

_AGAIN = "Copy or download the video again, or remove its annotation."


def count_frames(path: Path) -> int:
    """How many frames a video has; all of them are decoded, so damage is found.

    Raises:
        DataError: It cannot be decoded, is cut short, or shows nothing.
    """
    packets, frames = 0, 0
    with _opened(path) as (container, stream):
        for packet in container.demux(stream):
            packets += packet.size > 0
            frames += len(packet.decode())
        announced = stream.frames
    if not frames:
        raise DataError(f"The video {path} has no frames.", _AGAIN)
    if packets < announced:
        raise DataError(f"The video {path} is cut short: it has {packets} of {announced} frames.", _AGAIN)
    return frames


def read_frames(path: Path, indices: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Some frames of a video.

    Args:
        path: The video.
        indices: Numbers of the frames ``(K,)``, in any order and several times.
        size: Height and width to which they are brought.

    Returns:
        ``(K, 3, height, width)`` uint8.

    Raises:
        DataError: It cannot be decoded, or ends before the last of them.
    """
    wanted, places = np.unique(indices, return_inverse=True)
    found: list[Tensor] = []
    with _opened(path) as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
            if number == wanted[len(found)]:
                found.append(torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1))
                if len(found) == len(wanted):
                    break
    if len(found) < len(wanted):
        raise DataError(f"The video {path} ends before its frame {wanted[len(found)]}.", _AGAIN)
    frames = torch.stack(found)
    if tuple(frames.shape[-2:]) != tuple(size):
        frames = transforms.resize(frames, list(size), antialias=True)
    return frames[torch.from_numpy(places.reshape(-1))]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """A video and its first stream of pictures; what the decoder says about damage names the file."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no pictures in it.", _AGAIN)
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"The video {path} is damaged or no video: {reason}.", _AGAIN) from error
