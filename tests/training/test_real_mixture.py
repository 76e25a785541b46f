"""A small video model learns from published clips of three robots at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_video_model import small
from video_samples import robot_videos
from vpolicy_video_folders.components import VppVideos

from videopolicy.console.progress import Reporter
from videopolicy.recipes.recipe import Normalization, Stage
from videopolicy.training.curves import read_curves
from videopolicy.training.lightning_loop import train_stage
from videopolicy.training.mixture import Mixture, OpenPart
from videopolicy.training.normalization import Normalizer
from videopolicy.training.validation import validation_windows

COMMON = {"training": "annotation/val", "validation": None, "image_size": (32, 32)}


@pytest.mark.slow
def test_the_loss_falls_on_each_part(tmp_path: Path) -> None:
    folder = robot_videos()
    bridge, rt1 = (
        VppVideos(path=folder / name, sampling="whole-clip", **COMMON).build(None) for name in ("bridge", "rt1")
    )
    xhand = VppVideos(path=folder / "xhand", cameras={"front": 0, "side": 1}, **COMMON).build(None)
    views = {"front": 0.75, "side": 0.25}
    mixture = Mixture(
        [OpenPart("bridge", 0.4, bridge), OpenPart("rt1", 0.4, rt1), OpenPart("xhand", 0.2, xhand, cameras=views)],
        (32, 32),
    )
    torch.manual_seed(0)
    learner = small(frames=4).build(mixture.spaces)
    stage = Stage(name="video", steps=60, batch_size=4, validate_every=30, optimizer={"learning_rate": 3e-3})
    arguments = learner, Normalizer(Normalization(), mixture.statistics()), mixture.windows(learner.window), stage, 0
    measured = validation_windows(mixture, learner.window)
    train_stage(*arguments, tmp_path, Reporter(quiet=True), measured=measured)
    curves = read_curves(tmp_path)
    for name in ("bridge", "rt1", "xhand"):
        values = [value for _, value in curves[f"validation/{name}/video"]]
        assert len(values) == 3 and values[-1] < 0.8 * values[0], (name, values)
