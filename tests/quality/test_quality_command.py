"""``vpolicy quality`` on a real run of toy size."""

from __future__ import annotations

import pytest

from videopolicy.cli.quality import quality
from videopolicy.console.progress import Reporter
from videopolicy.errors import DataError, VpolicyError
from videopolicy.quality import read_quality
from videopolicy.recipes.recipe import load_recipe
from videopolicy.run import run
from videopolicy.testing import toy_benchmark, toys

RECIPE = f"""\
name: small
plugins: [{toys.__file__}, {toy_benchmark.__file__}]
benchmark: {{type: toy, task_names: [red]}}
data: {{type: robomimic-hdf5, episodes_per_task: 3, validation: 0.34}}
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
  decoder: {{type: toy}}
train: [{{name: policy, steps: 1, batch_size: 2}}]
eval: {{episodes: 0}}
tracking: []
"""


def test_a_runs_video_model_is_measured_on_what_was_held_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "home"))
    (tmp_path / "small.yaml").write_text(RECIPE)
    folder = run(load_recipe(tmp_path / "small.yaml"), tmp_path / "runs", Reporter(quiet=True))
    (folder / "videos" / "quality.json").unlink(missing_ok=True)
    quality(folder, clips=3, quiet=True)
    found = read_quality(folder)
    assert (found.clips, found.offsets) == (3, (2,)) and {"psnr", "psnr_still", "ssim"} <= set(found.values)
    assert found.source == "3 clips of 1 held-out episode"
    assert "small: PSNR" in capsys.readouterr().out
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="not on this machine"):
        quality(folder, quiet=True)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(VpolicyError, match="no run folder"):
        quality(tmp_path)
