"""A complete recipe of toy size: real parts, a video model of a few thousand weights, the toy benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from videopolicy.testing import toy_benchmark

RECIPE = f"""\
plugins: [{toy_benchmark.__file__}]
benchmark: {{type: toy, task_names: [red, blue]}}
data: {{type: robomimic-hdf5, episodes_per_task: 6}}
policy:
  type: modular
  extractor:
    type: one-step
    backbone:
      type: svd
      image_size: [16, 16]
      frames: 2
      stride: 2
      latent: {{type: space-to-depth, patch: 4}}
      text: {{type: word-text, width: 16}}
      double_text: false
      unet: {{channels: [32], heads: [2], attention: [true], layers: 1, time_ids_width: 8}}
    taps: [up0]
    former: {{type: video-former, dim: 32, depth: 1, heads: 2, dim_head: 16, latents_per_frame: 2}}
  decoder:
    type: dit-diffusion
    horizon: 4
    text: {{type: word-text, width: 16}}
    width: 32
    encoder_layers: 1
    decoder_layers: 1
    heads: 2
    sampling_levels: {{steps: 3}}
train:
  - {{name: video, target: policy.extractor.backbone, steps: 40, batch_size: 4}}
  - {{name: policy, steps: 60, batch_size: 8, cache_features: true, ema_decay: 0.9}}
eval: {{episodes: 5, execute: 3, workers: 2, batch_size: 4, baselines: [untrained, random]}}
tracking: []
"""

# Checkpoints come quickly, so that a kill falls between two of them. A test run in the background inherits that
# Ctrl-C is ignored; the program under test must not.
PROGRAM = """
import signal
import videopolicy.training.lightning_loop, videopolicy.cli.main
signal.signal(signal.SIGINT, signal.default_int_handler)
videopolicy.training.lightning_loop.SECONDS_BETWEEN_CHECKPOINTS = 0.3
videopolicy.cli.main.main()
"""


class Runner:
    """Runs the recipe in folders of its own, as a user would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.recipe = folder / "small.yaml"
        self.recipe.write_text(RECIPE, encoding="utf-8")
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "VPOLICY_HOME": str(folder / "home")}
        self.run_folder = folder / "runs" / "small"

    def start(self, *overrides: str) -> subprocess.Popen:
        command = [sys.executable, "-c", PROGRAM, "run", str(self.recipe), *overrides]
        with (self.folder / "output.txt").open("a") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

    def finish(self, *overrides: str) -> None:
        assert self.start(*overrides).wait(300) == 0, self.output()

    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def records(self) -> list[dict]:
        """Episode records without wall times, sorted."""
        lines = (self.run_folder / "episodes.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        for record in records:
            del record["seconds"]
        return sorted(records, key=lambda r: (r["policy"], r["task"], r["episode"]))


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory) -> Runner:
    """The recipe, run once without being disturbed."""
    runner = Runner(tmp_path_factory.mktemp("whole"))
    runner.finish()
    return runner


@pytest.fixture(scope="session")
def runner_in() -> type[Runner]:
    """Makes runners in a given folder."""
    return Runner
