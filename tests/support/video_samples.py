"""Folders of small videos in both layouts, and published clips.

In the small ones frame i of a video is grey, ``shade(i)`` bright on average.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import numpy as np
import pytest

from videopolicy.report.media import write_mp4


def robot_videos() -> Path:
    """Where published clips of Bridge, RT-1 and XHand lie; skips where they are not on this machine."""
    folder = os.environ.get("VPOLICY_SHARED")
    path = Path(folder or "") / "data" / "robot_videos"
    if not folder or not path.is_dir():
        pytest.skip("no robot videos: VPOLICY_SHARED names no folder that holds data/robot_videos")
    return path


def shade(frame: int) -> int:
    return 20 + 7 * frame % 231


def picture(frame: int, size: tuple[int, int]) -> np.ndarray:
    """Grey of this frame's brightness, on average: brighter to the right and darker to the left."""
    slope = np.linspace(-12, 12, size[1])[None, :, None] * np.linspace(0.2, 1, size[0])[:, None, None]
    return np.clip(shade(frame) + slope, 0, 255).repeat(3, axis=2).round().astype(np.uint8)


def write_video(path: Path, frames: int, size: tuple[int, int] = (16, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, (picture(number, size) for number in range(frames)), 10, crf=1)
    return path


def write_webm(path: Path, frames: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="webm") as container:
        stream = container.add_stream("libvpx-vp9", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, (32, 32)), format="rgb24")))
        container.mux(stream.encode())
    return path


def annotate(path: Path, split: str, name: str, texts: list[str], videos: list[str]) -> Path:
    """An annotation with the keys of VPP's."""
    file = path / "annotation" / split / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "task": "robot_trajectory_prediction",
        "texts": texts,
        "videos": [{"video_path": video} for video in videos],
        "episode_id": name,
        "video_length": 5,
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def vpp_folder(path: Path, lengths: tuple[int, ...] = (9, 5), views: int = 1, held_out: int = 1) -> Path:
    """Videos of these lengths for training, the same number of views each, and some of 4 frames for validation."""
    for split, counts in (("train", lengths), ("val", (4,) * held_out)):
        for number, frames in enumerate(counts):
            names = [f"videos/{split}/{number}/{view}.mp4" for view in range(views)]
            for view, name in enumerate(names):
                write_video(path / name, frames, (16 + 8 * view, 16))
            annotate(path, split, str(number), [f"do {split} {number}"], names)
    return path


def captioned_folder(path: Path, lengths: tuple[int, ...] = (9, 5)) -> Path:
    entries = []
    for number, frames in enumerate(lengths):
        write_video(path / "20bn-something-something-v2" / f"{100 + number}.mp4", frames)
        entries.append({"id": str(100 + number), "label": f"moving thing {number}", "template": "Moving [something]"})
    (path / "labels").mkdir(parents=True)
    (path / "labels" / "train.json").write_text(json.dumps(entries), encoding="utf-8")
    return path
