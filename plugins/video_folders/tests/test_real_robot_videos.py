"""The published Bridge, RT-1 and XHand clips, where they are on this machine."""

from __future__ import annotations

import pytest
from video_samples import robot_videos
from vpolicy_video_folders.components import VppVideos

from videopolicy import Window

WINDOW = Window(observed=(0,), future=tuple(range(2, 32, 2)))


@pytest.mark.parametrize(
    ("name", "options", "windows", "sentence"),
    [
        ("bridge", {"sampling": "whole-clip"}, 2, "put pot or pan from sink into drying rack"),
        ("rt1", {"sampling": "whole-clip"}, 2, "place apple into bottom drawer"),
        ("xhand", {"cameras": {"front": 0, "side": 1}}, 68, "Move the mango to the basket."),
    ],
)
def test_they_are_read(name: str, options: dict, windows: int, sentence: str) -> None:
    common = {"training": "annotation/val", "validation": None, "image_size": (64, 64)}
    dataset = VppVideos(path=robot_videos() / name, **common, **options).build(None)
    found = dataset.windows(WINDOW)
    assert len(found) == windows and dataset.remarks == ()
    batch = found.batch([0, windows - 1])
    assert batch.observation.instructions[0] == sentence
    for camera in dataset.spaces.cameras:
        future = batch.future[camera.name].float()
        assert future.shape == (2, 15, 3, 64, 64)
        assert future.std() > 20  # pictures
        assert (future[0, 0] - future[0, -1]).abs().mean() > 1  # in which something moves
