"""A run folder with everything in it, made up; tests take away what they want to see missing."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from videopolicy import ActionSpace, BenchmarkComponent, Camera, PublishedNumber, Spaces, Task
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord
from videopolicy.report.media import enlarge, write_mp4, write_png

TASKS = {
    "drawer-close-v3": ("easy", "close the drawer", 20),
    "button-press-topdown-v3": ("easy", "press the button from the top", 18),
    "door-open-v3": ("medium", "open the door", 17),
    "window-open-v3": ("medium", "push the window open", 19),
}

RECIPE = """\
name: made-up
seed: 7
benchmark: {type: tabletop, image_size: 64}
data: {type: hdf5, episodes_per_task: 40}
policy:
  type: modular
  extractor:
    type: one-step
    backbone: {type: small-video-model, channels: [32, 64]}
  decoder: {type: diffusion-head, horizon: 8}
train:
- {name: video, target: policy.extractor.backbone, steps: 1500, batch_size: 16}
- {name: policy, target: policy, steps: 2500, batch_size: 64}
eval: {episodes: 20, execute: 4, baselines: [untrained, random]}
"""


class Tabletop(BenchmarkComponent):
    """A benchmark that is only declared."""

    type: Literal["tabletop"] = "tabletop"
    image_size: int = 64

    def spaces(self) -> Spaces:
        actions = ActionSpace(names=("x", "y"), low=(-1, -1), high=(1, 1), control="delta_position", rate=80)
        return Spaces(cameras=(Camera(name="corner", height=self.image_size, width=self.image_size),), actions=actions)

    def tasks(self) -> tuple[Task, ...]:
        return tuple(
            Task(name=name, instruction=text, max_steps=200, tier=tier) for name, (tier, text, _) in TASKS.items()
        )

    def protocol(self):
        return {"simulator": "tabletop 3.1.1", "camera": "corner", "size": [64, 64], "rendering": "fast", "steps": 200}

    def published(self) -> tuple[PublishedNumber, ...]:
        note = "Over all 50 tasks of the benchmark; camera and prompts are not in the public code."
        return tuple(
            PublishedNumber(
                method=method,
                metric="success",
                group="mean",
                value=value,
                source="Made-up et al. 2025, table 2",
                episodes=25,
                note=note,
            )
            for method, value in (("Video policy A", 0.682), ("Behaviour cloning", 0.415))
        )


def write_records(folder: Path) -> None:
    log = EpisodeLog(folder / "episodes.jsonl")
    random = np.random.default_rng(0)
    for policy in ("trained", "untrained", "random"):
        for index, (task, (_, _, solved)) in enumerate(TASKS.items()):
            for episode in range(20):
                success = episode % 20 < solved if policy == "trained" else (policy, index, episode) == ("random", 0, 3)
                error = None
                if policy == "trained" and index == 2 and episode == 19:
                    success, error = False, "Worker 1 of 'tabletop' (process 4711) died during 'step' (signal SIGSEGV)."
                log.append(
                    EpisodeRecord(
                        policy=policy,
                        task=task,
                        episode=episode,
                        success=success,
                        score=float(success),
                        steps=int(random.integers(45, 110)) if success else 200,
                        seconds=2.5,
                        initial_state=f"{task}-{episode}",
                        protocol="5f0e6d2c9b1a7f34",
                        error=error,
                    )
                )


def write_curves(folder: Path) -> None:
    random = np.random.default_rng(1)
    with (folder / "train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["stage", "step", "name", "value", "seconds"])
        for step in range(10, 1501, 10):
            value = (0.9 * math.exp(-step / 250) + 0.09) * random.lognormal(0, 0.12)
            rows.writerow(["video", step, "loss/video", value, step * 0.12])
        for step in range(10, 2501, 10):
            value = (1.1 * math.exp(-step / 400) + 0.12) * random.lognormal(0, 0.2)
            rows.writerow(["policy", step, "loss/action", value, step * 0.05])
            rows.writerow(["policy", step, "lr-AdamW", 1e-4, step * 0.05])


def write_provenance(folder: Path) -> None:
    stage = {"peak_memory_bytes": 2.1e9, "reused": False}
    provenance = {
        "name": "made-up",
        "started": "2026-03-02T09:14:03+00:00",
        "finished": "2026-03-02T09:25:40+00:00",
        "command": "vpolicy run recipes/made-up.yaml",
        "versions": {"videopolicy": "0.1.0", "torch": "2.15.0", "diffusers": "0.42.0", "lightning": "2.6.1"},
        "commit": "45069db6a6de7c2b",
        "machine": {
            "processor": "Intel Xeon (Sapphire Rapids)",
            "cores": 2,
            "memory_bytes": 16.6e9,
            "accelerator": None,
            "python": "3.11.9",
            "platform": "Linux-6.1-x86_64",
        },
        "data": {
            "key": "b8a1c0",
            "episodes": dict.fromkeys(TASKS, 40),
            "seconds": 71.0,
            "steps": 12840,
            "steps_per_second": 181.2,
        },
        "stages": [
            {
                "name": "video",
                "target": "policy.extractor.backbone",
                "key": "11aa",
                "steps": 1500,
                "seconds": 184.0,
                "parameters": 3_412_480,
                "trainable_parameters": 3_412_480,
                "final_losses": {"video": 0.0931},
                **stage,
            },
            {
                "name": "policy",
                "target": "policy",
                "key": "22bb",
                "steps": 2500,
                "seconds": 131.0,
                "parameters": 5_018_116,
                "trainable_parameters": 1_605_636,
                "final_losses": {"action": 0.1242},
                **stage,
            },
        ],
        "evaluation": {
            "seconds": 118.0,
            "episodes": 240,
            "workers": 2,
            "batch_size": 8,
            "seconds_per_chunk": {"trained": {"median": 0.041, "p95": 0.055}},
        },
        "seconds": 697.0,
        "peak_memory_bytes": 3.4e9,
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))


def scene(size: int, time: float, shift: float = 0.0, noise: float = 0.0) -> np.ndarray:
    """A table, a block and a gripper that moves towards it; ``(size, size, 3)`` uint8."""
    rows, columns = np.mgrid[:size, :size] / size
    image = np.stack([0.75 - 0.3 * rows, 0.72 - 0.3 * rows, 0.68 - 0.2 * rows], axis=-1)
    image[rows > 0.55] = (0.55, 0.40, 0.26)
    image[(abs(rows - 0.68) < 0.08) & (abs(columns - 0.7) < 0.09)] = (0.75, 0.15, 0.12)
    x = 0.2 + 0.4 * time + shift
    image[(abs(rows - 0.55) < 0.05) & (abs(columns - x) < 0.06)] = (0.2, 0.2, 0.24)
    image[(rows < 0.5) & (abs(columns - x) < 0.02)] = (0.3, 0.3, 0.34)
    image += noise * np.random.default_rng(0).standard_normal(image.shape)
    return (255 * image.clip(0, 1)).astype(np.uint8)


def write_videos(folder: Path) -> None:
    films, forecasts = {}, {}
    for task in TASKS:
        outcomes = ("success",) if TASKS[task][2] == 20 else ("success", "failure")
        for outcome in outcomes:
            name = f"{task}-{outcome}.mp4"
            count = 24 if outcome == "success" else 60
            frames = [
                enlarge(scene(240, min(1.0, t / 24) * (1 if outcome == "success" else 0.4))) for t in range(count)
            ]
            write_mp4(folder / "videos" / name, frames, 80 / 3)
            films[name] = {
                "key": "k",
                "task": task,
                "episode": 0 if outcome == "success" else TASKS[task][2],
                "success": outcome == "success",
                "steps": 3 * count,
                "control_rate": 80,
                "differences": "",
            }
        offsets = list(range(0, 32, 4))
        real = [scene(48, t / 32) for t in offsets]
        predicted = [scene(48, t / 32, 0.002 * t, 0.02 * t / 32) for t in offsets]
        picture = np.concatenate([np.concatenate(row, axis=1) for row in (real, predicted)])
        write_png(folder / "videos" / f"{task}-prediction.png", picture)
        pairs = [enlarge(np.concatenate([r, p], axis=1)) for r, p in zip(real, predicted, strict=True)]
        write_mp4(folder / "videos" / f"{task}-prediction.mp4", pairs, 4)
        forecasts[task] = {
            "key": "k",
            "task": task,
            "episode": 0,
            "success": True,
            "now": 24,
            "control_rate": 80,
            "offsets": offsets,
            "shown": offsets,
            "height": 48,
            "width": 48,
            "psnr": 24.31,
            "psnr_still": 19.02,
        }
    (folder / "videos" / "videos.json").write_text(json.dumps(films))
    (folder / "videos" / "predictions.json").write_text(json.dumps(forecasts))


def fill(folder: Path) -> Path:
    """Write a whole run into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    write_records(folder)
    write_curves(folder)
    write_provenance(folder)
    write_videos(folder)
    return folder


@pytest.fixture
def tabletop() -> BenchmarkComponent:
    return Tabletop()


@pytest.fixture(scope="session")
def template_run(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("template") / "made-up")


@pytest.fixture
def made_up_run(template_run, tmp_path) -> Path:
    return Path(shutil.copytree(template_run, tmp_path / "runs" / "made-up"))
