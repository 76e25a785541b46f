"""Other encoders under a policy's decoder: the rows of Table 3 run on a toy base, and frozen tokens are kept."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from command import vpolicy
from toy_recipes import DIFFUSION, video

TABLE = Path(__file__).resolve().parents[2] / "recipes" / "ablations" / "vpp_table3.yaml"
FROZEN = """\
policy:
  type: modular
  extractor:
    type: resampled
    position_bands: 2
    extractor:
      type: image-encoder
      encoder: {type: autoencoder, image_size: [16, 16], channels: [32, 32], layers: 1}
    former: {type: video-former-2d, dim: 32, depth: 1, heads: 2, dim_head: 16, latents_per_frame: 4}
"""


@pytest.mark.slow
def test_every_row_of_table_three_runs_on_a_small_base(tmp_path: Path):
    stages = (
        "name: video, target: policy.extractor.backbone, steps: 2, batch_size: 2",
        "name: policy, steps: 2, batch_size: 2",
    )
    recipe = video(stages, "episodes: 1, execute: 3, workers: 1, batch_size: 2, baselines: []")
    (tmp_path / "small.yaml").write_text(recipe, encoding="utf-8")
    arguments = ("--base", "small.yaml", "--format", "csv", "-o", "table.csv")
    done = vpolicy(tmp_path, "ablate", str(TABLE), *arguments, VPOLICY_HOME=str(tmp_path / "home"), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [row["row"] for row in rows] == ["VDM", "Stable-VAE", "VC-1", "Voltron", "DINOv2"]
    assert {(row["n"], row["errors"]) for row in rows} == {("2", "0")}
    assert len(list((tmp_path / "home" / "stages").glob("*/done.json"))) == 1 + 5  # one video model


@pytest.mark.slow
def test_tokens_of_a_frozen_encoder_are_computed_once(tmp_path: Path):
    stage = "name: policy, steps: 2, batch_size: 2, cache_features: true"
    text = video((stage,), "episodes: 1, execute: 3, workers: 1, batch_size: 2, baselines: []")
    before, _, after = text.partition("policy:")
    decoder = f"  decoder: {{{DIFFUSION}}}\n"
    (tmp_path / "frozen.yaml").write_text(before + FROZEN + decoder + after[after.index("train:") :], encoding="utf-8")
    done = vpolicy(tmp_path, "run", "frozen.yaml", VPOLICY_HOME=str(tmp_path / "home"), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (tmp_path / "home").glob("**/features.npy")
    features = np.load(file)
    assert features.dtype == np.float16 and features.shape[2] == 4 and features.shape[1] % (8 * 8) == 0
    assert np.isfinite(features).all() and features.std() > 0
