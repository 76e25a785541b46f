"""A benchmark whose simulator is not there: its recipes train, and evaluation is refused before anything is spent."""

from __future__ import annotations

import csv
import json
import math
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from children import vpolicy_apart
from command import vpolicy as vpolicy_here
from typer.testing import CliRunner
from vpolicy_robocasa.components import RoboCasa

from videopolicy.cli.main import app
from videopolicy.parts.no_simulator import BenchmarkWithoutSimulator
from videopolicy.training.checkpoints import load_normalizer

CAMERAS = ("robot0_eye_in_hand", "robot0_agentview_left", "robot0_agentview_right")
TASKS = ("OpenDrawer", "CloseDrawer")
RECIPE = """\
benchmark: {type: robocasa, task_names: [drawers], image_size: 16}
data:
  type: robomimic-hdf5
  path: single_stage
  files: "*/*/*/demo_gentex_im256_randcams.hdf5"
  action_dimensions: [0, 1, 2, 3, 4, 5, 6]
  actionless_tasks: [CloseDrawer]
  actions:
    names: [x, y, z, roll, pitch, yaw, gripper]
    low: [-1, -1, -1, -1, -1, -1, -1]
    high: [1, 1, 1, 1, 1, 1, 1]
    control: delta_position
    rotation: delta_axis_angle
    gripper: positive_closes
    rate: 20
policy:
  type: modular
  extractor:
    type: every-step
    backbone:
      type: svd
      image_size: [16, 16]
      frames: 2
      stride: 2
      views: concatenated
      pad_frame: true
      latent: {type: space-to-depth, patch: 4}
      text: {type: word-text, width: 16}
      text_tokens: pooled
      double_text: false
      unet: {channels: [32], heads: [2], attention: [true], layers: 1, time_ids_width: 8}
    taps: [up0.1]
    adapter:
      stages: [[16, 2]]
      merges: []
      squeeze: []
      trunk: [[16, 2]]
      deep_layers: 0
      halvings: 1
      blocks: 1
      halving_blocks: 1
      deep_groups: 2
      norm_groups: 2
    frozen: true
  decoder: {type: action-unet, horizon: 4, down_dims: [16, 16], step_dim: 16, groups: 2}
normalization: {actions: minmax}
train:
  - {name: video, target: policy.extractor.backbone, steps: 3, batch_size: 2}
  - {name: action, steps: 12, batch_size: 2}
eval: {episodes: 2, execute: 2, batch_size: 2}
tracking: []
"""


def record(path: Path, task: str) -> np.ndarray:
    """A file as RoboCasa v0.1 has it; returns the actions of the arm."""
    random = np.random.default_rng(len(task))
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": task})
        for number in range(2):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = random.uniform(-0.5, 0.5, (6, 12))
            for camera in CAMERAS:
                demo[f"obs/{camera}_image"] = random.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
            demo.attrs["num_samples"] = 6
            demo.attrs["ep_meta"] = json.dumps({"lang": f"{task} {number}"})
        return np.concatenate([data[f"demo_{number}/actions"][()] for number in range(2)])[:, :7]


@pytest.fixture
def vpolicy(tmp_path: Path):
    (tmp_path / "small.yaml").write_text(RECIPE, encoding="utf-8")
    return partial(vpolicy_apart, tmp_path, VPOLICY_HOME=str(tmp_path / "home"))


@pytest.fixture
def without_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """RoboCasa as a benchmark whose simulator does not come with it."""
    monkeypatch.setattr(RoboCasa, "launch", BenchmarkWithoutSimulator.launch)
    monkeypatch.setattr(RoboCasa, "called", "RoboCasa", raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("without_simulator")
def test_it_trains_on_videos_of_all_tasks_and_actions_of_some(vpolicy, tmp_path: Path) -> None:
    seen = {
        task: record(tmp_path / f"single_stage/kitchen_drawer/{task}/2024-05-03/demo_gentex_im256_randcams.hdf5", task)
        for task in TASKS
    }
    with h5py.File(next(tmp_path.glob("**/OpenDrawer/**/*.hdf5")), "a") as file:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": ["open", "the", "drawer"]})
        file["data/demo_1/actions"][0, 0] = 3.0
    seen["OpenDrawer"][6, 0] = 3.0
    refused = vpolicy_here(tmp_path, "run", "small.yaml", VPOLICY_HOME=str(tmp_path / "home"))
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "RoboCasa's simulator is not part of this version" in refused.stderr
    assert "eval.episodes=0" in refused.stderr
    assert not list(tmp_path.glob("home/stages/*"))
    done = vpolicy("run", "small.yaml", "eval.episodes=0")
    assert done.returncode == 0, done.stderr
    assert "Missing" not in done.stdout and "Published, not measured here" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("PnPCounterToMicrowave"))
    assert row.split()[1:] == ["0", "6", "6", "2", "13", "10", "56", "10", "52", "22"]  # Table 1, in 80 columns
    run = tmp_path / "runs" / "small"
    assert (run / "report.html").is_file() and not (run / "episodes.jsonl").exists()
    with (run / "train.csv").open() as handle:
        losses = [float(row["value"]) for row in csv.DictReader(handle) if row["name"].startswith("loss")]
    assert losses and all(map(math.isfinite, losses))  # actions that nobody sees are NaN
    said = json.loads((run / "provenance.json").read_text())["data_remarks"]
    assert [remark in done.stderr + done.stdout for remark in said] == [True, True]
    assert (
        "1 episodes are not stored as plain text (words joined by blanks)" in said[0] and "'open the drawer'" in said[0]
    )
    assert "'x' from -0." in said[1] and "to 3 where -1 to 1 is declared" in said[1]
    stages = {json.loads(path.read_text())["name"]: path.parent for path in tmp_path.glob("home/stages/*/done.json")}
    scale = load_normalizer(stages["action"]).action_scale.numpy()
    low, high = seen["OpenDrawer"].min(0), seen["OpenDrawer"].max(0)
    assert np.allclose(scale, (high - low) / 2, atol=1e-6)  # of the tasks whose actions are seen


def test_missing_packs_of_assets_are_said_before_anything_is_spent(tmp_path: Path) -> None:
    record(tmp_path / "single_stage/kitchen_drawer/OpenDrawer/2024-05-03/demo_gentex_im256_randcams.hdf5", "OpenDrawer")
    (tmp_path / "small.yaml").write_text(RECIPE, encoding="utf-8")
    variables = {"VPOLICY_HOME": str(tmp_path / "home"), "VPOLICY_ROBOCASA_SOURCE": "", "VPOLICY_ROBOCASA_ASSETS": ""}
    refused = vpolicy_here(tmp_path, "run", "small.yaml", **variables)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "these packs are not here: textures, fixtures, objaverse (about 5 GB together)" in refused.stderr
    assert "vpolicy env assets" in refused.stderr and not list(tmp_path.glob("home/*"))


@pytest.mark.usefixtures("without_simulator")
def test_its_data_is_counted_and_its_missing_simulator_listed(tmp_path: Path) -> None:
    for task in TASKS:
        record(tmp_path / task / "demo.hdf5", task)
    space = "{names: [a,b,c,d,e,f,g], low: [-1,-1,-1,-1,-1,-1,-1], high: [1,1,1,1,1,1,1], control: velocity, rate: 20}"
    options = ["actionless_tasks=[CloseDrawer]", "action_dimensions=[0,1,2,3,4,5,6]", f"actions={space}"]
    counted = CliRunner().invoke(app, ["data", "info", str(tmp_path), *options])
    assert counted.exit_code == 0, counted.output
    rows = [line.split() for line in counted.output.splitlines() if line.startswith("train")]
    assert [row[-4:] for row in rows] == [["1", "6", "6", "6"]] * 4
    listed = CliRunner().invoke(app, ["env", "list"])
    assert listed.exit_code == 0
    assert "no simulator" in listed.output and "metaworld" in listed.output
