"""Frames to files that a browser plays and shows."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from videopolicy.storage.files import written_whole

_SHORTEST_SIDE = 224
"""Frames with a shorter side below this many pixels are enlarged by whole factors, so that pixels stay visible."""


def enlarge(frame: np.ndarray, shortest: int = _SHORTEST_SIDE) -> np.ndarray:
    """Repeat pixels until the shorter side has at least about ``shortest`` of them.

    Args:
        frame: ``(height, width, 3)`` uint8.
    """
    factor = max(1, round(shortest / min(frame.shape[:2])))
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def fit(frame: np.ndarray, shortest: int = _SHORTEST_SIDE) -> np.ndarray:
    """Bring the shorter side to about ``shortest`` pixels: small frames by repeating pixels, large ones by averaging.

    Args:
        frame: ``(height, width, 3)`` uint8.
    """
    from PIL import Image

    factor = shortest / min(frame.shape[:2])
    if factor >= 1:
        return enlarge(frame, shortest)
    size = (round(frame.shape[1] * factor), round(frame.shape[0] * factor))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))


def write_mp4(path: Path, frames: Iterable[np.ndarray], rate: float, crf: int = 26) -> None:
    """Write H.264, which every browser plays, replacing the file only when it is complete.

    Args:
        path: The file.
        frames: ``(height, width, 3)`` uint8, all of one size.
        rate: Frames a second.
        crf: Constant rate factor of the encoder: higher is smaller and coarser.
    """
    with written_whole(path) as part:
        _encode(part, frames, rate, crf)


def _encode(path: Path, frames: Iterable[np.ndarray], rate: float, crf: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = None
        for frame in frames:
            # 4:2:0 chroma needs even sides.
            even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def write_png(path: Path, image: np.ndarray) -> None:
    """Write ``(height, width, 3)`` uint8."""
    from PIL import Image

    with written_whole(path) as part:
        Image.fromarray(image).save(part, format="png", optimize=True)


def data_uri(content: bytes, media_type: str) -> str:
    """The content as an address that needs no file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
