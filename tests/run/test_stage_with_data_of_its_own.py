"""A run whose video model sees a mixture of videos and of the recipe's own demonstrations."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from command import vpolicy
from toy_recipes import DIFFUSION, video
from video_samples import vpp_folder, write_video

MIXTURE = (
    "[{name: clips, ratio: 0.5, data: {type: vpp-videos, path: clips, image_size: [24, 24]}}, "
    "{name: own, ratio: 0.5, cameras: {top: 1.0}}]"
)
RECIPE = video(
    (
        "name: video, target: policy.extractor.backbone, steps: 60, batch_size: 4, validate_every: 30, "
        f"optimizer: {{learning_rate: 3e-3}}, data: {MIXTURE}",
        "name: policy, steps: 4, batch_size: 4",
    ),
    "episodes: 1, execute: 3, workers: 2, batch_size: 2",
    decoder=f"{DIFFUSION}, encoder_layers: 1, decoder_layers: 1, sampling_levels: {{steps: 2}}",
    data="episodes_per_task: 2",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the recipe was run once."""
    folder = tmp_path_factory.mktemp("mixture")
    vpp_folder(folder / "clips", lengths=(20, 12))
    (folder / "r.yaml").write_text(RECIPE, encoding="utf-8")
    done = vpolicy(folder, "run", "r.yaml", VPOLICY_HOME=str(folder / "home"))
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_the_loss_falls_on_each_part(folder: Path) -> None:
    with (folder / "runs/r/train.csv").open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["stage"] == "video"]
    for part in ("clips", "own"):
        curve = {int(row["step"]): float(row["value"]) for row in rows if row["name"] == f"validation/{part}/video"}
        assert sorted(curve) == [0, 30, 60]
        assert curve[60] < 0.9 * curve[0]


def test_the_policy_goes_on_with_the_benchmarks_cameras_and_scaling(folder: Path) -> None:
    provenance = json.loads((folder / "runs/r/provenance.json").read_text())
    video_stage, policy_stage = provenance["stages"]
    assert len((folder / "runs/r/episodes.jsonl").read_text().splitlines()) == 2
    scaling = json.loads((folder / "home/stages" / policy_stage["key"] / "normalization.json").read_text())
    assert len(scaling["statistics"]["actions"]["minimum"]) > 0
    empty = json.loads((folder / "home/stages" / video_stage["key"] / "normalization.json").read_text())
    assert empty["statistics"]["actions"]["minimum"] == []


def test_what_the_stage_sees_is_its_key(folder: Path) -> None:
    def keys(*overrides: str) -> list[str]:
        more = ("train.video.steps=1", "train.policy.steps=1", "eval.episodes=0", "name=keys", *overrides)
        done = vpolicy(folder, "run", "r.yaml", *more, VPOLICY_HOME=str(folder / "home"))
        assert done.returncode == 0, done.stderr
        provenance = json.loads((folder / "runs/keys/provenance.json").read_text())
        shutil.rmtree(folder / "runs/keys")
        return [stage["key"] for stage in provenance["stages"]]

    base = keys()
    assert keys("train.video.validate_every=7") == base
    shutil.copytree(folder / "clips", folder / "copied")
    assert keys("train.video.data.clips.data.path=copied") == base
    other_ratio = keys("train.video.data.clips.ratio=0.25", "train.video.data.own.ratio=0.75")
    write_video(folder / "copied/videos/train/1/0.mp4", 13)
    other_video = keys("train.video.data.clips.data.path=copied")
    assert len({key for one in (base, other_ratio, other_video) for key in one}) == 6


def test_missing_videos_are_said_before_anything_is_made(folder: Path) -> None:
    done = vpolicy(folder, "run", "r.yaml", "train.video.data.clips.data.path=nowhere", "name=missing")
    assert done.returncode == 2 and "The dataset nowhere does not exist." in done.stderr
