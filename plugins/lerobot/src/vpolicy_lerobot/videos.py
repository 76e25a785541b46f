"""Frames of videos by their seconds, decoded with PyAV: as few frames as the keyframes allow, in one pass."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from videopolicy import DataError
from vpolicy_lerobot.described import AGAIN
from vpolicy_lerobot.tables import ensure_there

OPEN = 16
"""Videos that a process keeps open."""
_WORTH = 4
"""Frames that are rather decoded than jumped over: a jump empties the decoder."""


def ensure_sound(path: Path, size: tuple[int, int], frames: int, fps: float) -> None:
    """Check what the head of a video says, without decoding it.

    Args:
        path: The video.
        size: Height and width that the dataset's metadata say.
        frames: How many episodes need at least.
        fps: Frames a second.

    Raises:
        DataError: It is missing or cut short, or is another one.
    """
    ensure_there(path)
    with _decodable(path), av.open(str(path)) as container:
        stream = _pictures(container, path)
        there = (stream.codec_context.height, stream.codec_context.width)
        rate, count = stream.average_rate, stream.frames
        ends = [entry.pos + entry.size for entry in stream.index_entries]
    if there != size:
        raise DataError(
            f"The video {path} is {there[0]}x{there[1]}, where meta/info.json says {size[0]}x{size[1]}.", AGAIN
        )
    if ends and max(ends) > path.stat().st_size:
        raise DataError(f"The video {path} is cut short: its last frame ends behind the end of the file.", AGAIN)
    if count and count < frames:
        raise DataError(
            f"The video {path} has {count} frames, and the episodes in it have {frames}, or are shifted.", AGAIN
        )
    if rate is not None and abs(float(rate) - fps) > 0.01 * fps:
        raise DataError(
            f"The video {path} has {float(rate):.4g} frames a second, where meta/info.json says {fps:g}: its frames "
            "are not those of the steps.",
            "Correct `fps` in meta/info.json, or encode the video again at that rate.",
        )


class Videos:
    """Videos that are read in any order; those used last stay open, in every process for itself.

    Args:
        tolerance: Seconds by which a frame may be off.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._opened: OrderedDict[Path, _Video] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": OrderedDict()}

    def read(self, path: Path, seconds: np.ndarray) -> list[np.ndarray]:
        """Frames of a video.

        Args:
            path: The video.
            seconds: When they are due ``(K,)``, ascending.

        Returns:
            K of ``(height, width, 3)`` uint8.

        Raises:
            DataError: It cannot be decoded, or has no frame then.
        """
        if self._process != os.getpid():  # a decoder is not to be shared with whoever was copied from
            self._opened, self._process = OrderedDict(), os.getpid()
        with _decodable(path):
            if path not in self._opened:
                while len(self._opened) >= OPEN:
                    self._opened.popitem(last=False)[1].close()
                self._opened[path] = _Video(path)
            self._opened.move_to_end(path)
            try:
                return [self._opened[path].at(float(second), self._tolerance) for second in seconds]
            except (av.FFmpegError, DataError):
                self._opened.pop(path).close()
                raise


class _Video:
    """A video that is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._container = av.open(str(path))
        self._stream = _pictures(self._container, path)
        self._stream.codec_context.thread_count = 1  # there are as many processes as cores, and frames are small
        base, rate = self._stream.time_base, self._stream.average_rate
        if base is None or not rate:
            raise DataError(f"The video {path} does not say when its frames are due.", AGAIN)
        self._base, self._frame = float(base), 1 / float(rate)
        keys = [entry.timestamp for entry in self._stream.index_entries if entry.is_keyframe]
        self._keyframes = np.sort(np.array(keys, np.float64)) * self._base
        self._coming: Iterator[av.VideoFrame] = iter(())
        self._held: av.VideoFrame | None = None

    def close(self) -> None:
        self._container.close()

    def at(self, second: float, tolerance: float) -> np.ndarray:
        """The frame ``(height, width, 3)`` that is due then.

        Raises:
            DataError: There is none.
        """
        tolerance += self._base / 2  # the times that a container can write are so far apart
        if self._is_behind(second, tolerance):
            self._jump(second)
        back = second
        while True:
            frame = self._until(second - tolerance)
            if frame is not None and self._time(frame) <= second + tolerance:
                return frame.to_ndarray(format="rgb24")
            if back <= 0 or not self._jumped:
                break
            back = max(back - max(1.0, 2 * (second - back)), 0.0)  # the index orders frames as they are decoded
            self._jump(back)
        near = f"; the next one is at {self._time(frame):.6g} s" if frame is not None else ", and ends before"
        raise DataError(
            f"The video {self._path} has no frame at {second:.6g} s{near}.",
            "Its timestamps are shifted, or it is cut short. Copy or download it again, or encode it again at the "
            "frame rate of the dataset.",
        )

    def _is_behind(self, second: float, tolerance: float) -> bool:
        """Whether another place of the video is a better one to go on from."""
        self._jumped = False
        if self._held is None or self._time(self._held) > second + tolerance:
            return True
        before = self._keyframes[self._keyframes <= second + tolerance]
        skipped = float(before[-1]) - self._time(self._held) if len(before) else 0.0
        return skipped > (_WORTH + 0.5) * self._frame

    def _jump(self, second: float) -> None:
        self._container.seek(round(second / self._base), stream=self._stream, backward=True)
        self._coming, self._held, self._jumped = self._container.decode(self._stream), None, True

    def _until(self, second: float) -> av.VideoFrame | None:
        """The first frame from where we are that is not before then; None at the end."""
        if self._held is not None and self._time(self._held) >= second:
            return self._held
        self._held = None
        for frame in self._coming:
            if frame.pts is not None and self._time(frame) >= second:
                self._held = frame
                break
        return self._held

    def _time(self, frame: av.VideoFrame) -> float:
        assert frame.pts is not None  # others are left out
        return frame.pts * self._base


def _pictures(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    if not container.streams.video:
        raise DataError(f"{path} has no pictures in it.", AGAIN)
    return container.streams.video[0]


@contextmanager
def _decodable(path: Path) -> Iterator[None]:
    """What the decoder says about damage names the file."""
    ensure_there(path)
    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"The video {path} is cut short or damaged, or no video: {reason}.", AGAIN) from error
