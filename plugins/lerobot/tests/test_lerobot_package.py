"""LeRobot's own package opens what we write, and trains on it; its environment is made by hand."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_lerobot_writer import SIZES, episodes, written

PYTHON = os.environ.get("VPOLICY_LEROBOT_PYTHON")
SCRIPT = Path(__file__).with_name("lerobot_package.py")


@pytest.mark.slow
@pytest.mark.skipif(
    not PYTHON,
    reason="VPOLICY_LEROBOT_PYTHON names no interpreter of an environment with LeRobot: uv venv -p 3.12 ENV && "
    "uv pip install -p ENV 'lerobot[dataset]==0.6.1'",
)
def test_lerobot_opens_and_trains_on_what_we_write(tmp_path: Path) -> None:
    root = written(tmp_path / "data")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "HF_LEROBOT_HOME": str(tmp_path / "hub")}
    done = subprocess.run(
        [str(PYTHON), str(SCRIPT), str(root), "10"],
        capture_output=True, text=True, env={**os.environ, **offline}, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    ours = episodes()
    total = sum(len(one.actions) for one in ours)
    for name in SIZES:
        assert said["frames"][f"observation.images.{name}"] == list(range(total))
    assert said["episodes"] == [number for number, one in enumerate(ours) for _ in one.actions]
    assert said["tasks"] == [one.instruction for one in ours for _ in one.actions]
    assert np.array_equal(np.float32(said["actions"]), np.concatenate([one.actions for one in ours]))
    assert np.array_equal(np.float32(said["state"]), np.concatenate([one.state for one in ours]))
    assert said["fps"] == 10 and len(said["stats"]["observation.images.odd"]) == 3
    losses = said["losses"]
    assert len(losses) == 10 and np.isfinite(losses).all() and np.mean(losses[-3:]) < np.mean(losses[:3])
