"""Writes videos: episodes are encoded one by one, and put into one file without being encoded again."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np

from videopolicy import StorageError

CODEC: Literal["libx264"] = "libx264"
_OPTIONS = {"crf": "18", "g": "2", "bf": "0"}
"""A keyframe for every second frame, as LeRobot's own writer has it, so that a frame costs two at most; H.264 at a
quality at which people see no difference, where LeRobot has AV1 at 30, which small pictures do not survive well."""


def pixel_format(height: int, width: int) -> str:
    """How colours are stored: at half the resolution where that is possible, as players want it."""
    return "yuv444p" if height % 2 or width % 2 else "yuv420p"


def encoded(frames: np.ndarray, rate: int) -> bytes:
    """A video in memory.

    Args:
        frames: ``(n, height, width, 3)`` uint8.
        rate: Frames a second.

    Raises:
        StorageError: PyAV has no encoder.
    """
    height, width = frames.shape[1:3]
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4") as container:
            stream = container.add_stream(CODEC, rate=Fraction(rate), options=_OPTIONS)
            stream.height, stream.width = height, width
            stream.pix_fmt = pixel_format(height, width)
            stream.codec_context.thread_count = 1  # the same bytes wherever it is encoded
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:
        raise StorageError(
            f"Frames of {height}x{width} cannot be encoded by {CODEC}: {error}.",
            "Install PyAV from its wheels, which hold this encoder (`uv pip install --reinstall av`).",
        ) from error
    return buffer.getvalue()


class Film:
    """One file that gets the videos of several episodes, one after the other.

    Args:
        path: The file.
        rate: Frames a second.
    """

    def __init__(self, path: Path, rate: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", format="mp4")
        self._stream: av.VideoStream | None = None
        self._rate, self._frames = rate, 0

    def add(self, video: bytes, frames: int) -> float:
        """Append a video of so many frames; returns the second at which it begins."""
        with av.open(io.BytesIO(video), "r") as source:
            pictures = source.streams.video[0]
            if self._stream is None:
                self._stream = self._container.add_stream_from_template(pictures)
                self._stream.time_base = pictures.time_base
            assert pictures.time_base is not None  # it was encoded here
            begin = Fraction(self._frames, self._rate)
            offset = round(begin / pictures.time_base)
            for packet in source.demux(pictures):
                if packet.pts is None or packet.dts is None:
                    continue
                packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, self._stream
                self._container.mux(packet)
        self._frames += frames
        return float(begin)

    def close(self) -> None:
        self._container.close()
