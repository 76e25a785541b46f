"""Which frames of which videos a window has."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from video_samples import captioned_folder, vpp_folder, write_video, write_webm
from vpolicy_video_folders import lengths
from vpolicy_video_folders.components import CaptionedVideos, VppVideos

from videopolicy import Batch, Window
from videopolicy.console.progress import Reporter

SIXTEEN = Window(observed=(0,), future=tuple(range(2, 32, 2)))


def frames_of(batch: Batch, row: int, camera: str = "video") -> list[int]:
    """The numbers of a window's frames, from their brightness."""
    shown = torch.cat([batch.observation.images[camera][row], batch.future[camera][row]])
    return [round((float(value) - 20) / 7) for value in shown.float().mean(dim=(1, 2, 3))]


@pytest.mark.parametrize("frames", [16, 23, 30])
def test_a_whole_clip_gives_sixteen_frames_from_first_to_last(tmp_path: Path, frames: int) -> None:
    path = captioned_folder(tmp_path, (frames,))
    windows = CaptionedVideos(path=path, image_size=(16, 16)).build(None).windows(SIXTEEN)
    assert len(windows) == 1
    batch = windows.batch([0])
    assert frames_of(batch, 0) == np.linspace(0, frames - 1, 16).astype(int).tolist()
    assert batch.future_mask.all() and batch.observation.instructions == ["moving thing 0"]


def test_at_steps_windows_begin_at_every_second_frame_and_the_last_one_is_repeated(tmp_path: Path) -> None:
    path = vpp_folder(tmp_path, lengths=(9, 4))
    windows = VppVideos(path=path, image_size=(16, 16)).build(None).windows(Window(future=(2, 4)))
    assert len(windows) == 5 + 2
    batch = windows.batch([0, 3, 4, 6])
    assert [frames_of(batch, row) for row in range(4)] == [[0, 2, 4], [6, 8, 8], [8, 8, 8], [2, 3, 3]]
    assert batch.future_mask.tolist() == [[True, True], [True, False], [False, False], [False, False]]
    assert batch.observation.instructions == ["do train 0"] * 3 + ["do train 1"]
    assert batch.actions is None and batch.observation.state is None


def test_frames_are_the_same_from_memory_and_from_disk(tmp_path: Path) -> None:
    path = vpp_folder(tmp_path, views=2)
    options = {"path": path, "cameras": {"a": 0, "b": 1}, "image_size": (24, 20)}
    batches = [
        VppVideos(**options, memory_limit=limit).build(None).windows(SIXTEEN).batch([3, 0, 1]) for limit in (0, 1)
    ]
    for camera in ("a", "b"):
        assert batches[0].observation.images[camera].shape == (3, 1, 3, 24, 20)
        assert torch.equal(batches[0].future[camera], batches[1].future[camera])


def test_long_videos_are_left_out_of_whole_clips_and_said(tmp_path: Path) -> None:
    path = vpp_folder(tmp_path, lengths=(9, 5))
    options = {"path": path, "longest": 8, "image_size": (16, 16)}
    whole = VppVideos(**options, sampling="whole-clip").build(None)
    assert whole.splits == {"train": 1, "validation": 1}
    assert whole.remarks == (f"1 of 3 videos of {path} have more than 8 frames and are left out (`longest`)",)
    assert VppVideos(**options).build(None).splits["train"] == 2
    with pytest.raises(Exception, match=r"All 2 videos of .* have more than 4 frames, so none is left"):
        VppVideos(**{**options, "longest": 4}, sampling="whole-clip").build(None)


def test_webm_is_read_too(tmp_path: Path) -> None:
    path = captioned_folder(tmp_path, (6,))
    video = path / "20bn-something-something-v2" / "100.mp4"
    video.unlink()
    write_webm(video.with_suffix(".webm"), 11)
    batch = CaptionedVideos(path=path, image_size=(16, 16)).build(None).windows(Window(future=(1, 2))).batch([0])
    assert frames_of(batch, 0) == [0, 5, 10]


def test_lengths_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, counted = vpp_folder(tmp_path / "data"), []
    real = lengths.count_frames
    monkeypatch.setattr(lengths, "count_frames", lambda video: (counted.append(video.parent.name), real(video))[1])
    component = VppVideos(path=path, image_size=(16, 16))

    def opened() -> str:
        counted.clear()
        return component.open(None, tmp_path / "cache", Reporter(quiet=True)).fingerprint()

    first = opened()
    assert len(counted) == 3
    assert opened() == first and not counted
    video = write_video(path / "videos/train/1/0.mp4", 7)
    os.utime(video, ns=(1, 1))
    assert opened() != first and counted == ["1"]


def test_what_is_shown_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = vpp_folder(tmp_path)
    base = {"path": path, "image_size": (16, 16)}
    changes = ({}, {"sampling": "whole-clip"}, {"window_stride": 1}, {"image_size": (24, 24)}, {"cameras": {"b": 0}})
    prints = [VppVideos(**base | change).build(None).fingerprint() for change in changes]
    assert len(set(prints)) == len(prints)
    assert VppVideos(**base, memory_limit=0).build(None).fingerprint() == prints[0]
