"""Latents that VPP publishes in place of videos."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from video_samples import annotate, robot_videos
from vpolicy_video_folders.components import VppVideos

from videopolicy import DataError, Dataset, Window


def write(path: Path, latents: object, folder: str = "latent_videos") -> Path:
    file = annotate(path, "train", "0", ["do it"], [])
    content = json.loads(file.read_text())
    content["latent_videos"] = [{"latent_video_path": "latent_videos/train/0/0.pt"}]
    file.write_text(json.dumps(content))
    place = path / folder / "train/0/0.pt"
    place.parent.mkdir(parents=True)
    torch.save(latents, place)
    return place


def opened(path: Path, **options: object) -> Dataset:
    return VppVideos(path=path, frames="latents", validation=None, **options).build(None)


def drawn(frames: int = 9) -> torch.Tensor:
    return 0.75 * torch.randn(frames, 4, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("folder", ["latent_videos", "latent_videos_svd"])
def test_windows_hold_latents_in_place_of_frames(tmp_path: Path, folder: str) -> None:
    latents = drawn()
    write(tmp_path, latents, folder)
    dataset = opened(tmp_path)
    assert dataset.encoder == "" and dataset.splits == {"train": 1}
    windows = dataset.windows(Window(future=(2, 4)))
    assert len(windows) == 5
    batch = windows.batch([3, 0])
    assert batch.observation.images == {} and batch.future == {}
    assert torch.equal(batch.latents["video"], latents[torch.tensor([[6, 8, 8], [0, 2, 4]])])
    whole = opened(tmp_path, sampling="whole-clip").windows(Window(future=(2, 4))).batch([0])
    assert torch.equal(whole.latents["video"][0], latents[[0, 4, 8]])


@pytest.mark.parametrize("scale", [1 / 0.18215, 0.18215])
def test_latents_of_another_scale(tmp_path: Path, scale: float) -> None:
    place = write(tmp_path, drawn() * scale)
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    assert caught.value.message.startswith(f"The latents {place} have a deviation of {0.75 * scale:.1f}"[:-2])
    assert "where it is about 0.75" in caught.value.message and "0.18215" in caught.value.hint


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (Evil(), "names code besides a tensor, which is not run"),
        ({"latents": drawn()}, "holds dict, not latents"),
        (drawn().half(), r"of torch.float16, not latents"),
        (drawn()[0], r"holds \(4, 32, 32\) of torch.float32"),
    ],
)
def test_files_that_hold_something_else(tmp_path: Path, content: object, says: str) -> None:
    write(tmp_path, content)
    with pytest.raises(DataError, match=says):
        opened(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no tensor", pickle.dumps([1])])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, drawn()).write_bytes(content)
    with pytest.raises(DataError, match=r"latent_videos/train/0/0.pt"):
        opened(tmp_path)


def test_the_published_ones() -> None:
    common = {"training": "annotation/val", "validation": None, "sampling": "whole-clip"}
    dataset = VppVideos(path=robot_videos() / "bridge", frames="latents", **common).build(None)
    window = Window(future=tuple(range(2, 32, 2)))
    batch = dataset.windows(window).batch([0, 1])
    assert batch.latents["video"].shape == (2, 16, 4, 32, 32)
    assert batch.latents["video"].std() == pytest.approx(0.75, abs=0.1)
    videos = VppVideos(path=robot_videos() / "bridge", **common).build(None)
    assert videos.windows(window).batch([0, 1]).observation.instructions == batch.observation.instructions
