"""``vpolicy quality`` on a real run of toy size."""

from __future__ import annotations

import pytest
from toy_recipes import video

from videopolicy.cli.quality import quality
from videopolicy.console.progress import Reporter
from videopolicy.errors import DataError, VpolicyError
from videopolicy.quality import read_quality
from videopolicy.recipes.recipe import load_recipe
from videopolicy.running import run

RECIPE = "name: small\n" + video(
    ("name: policy, steps: 1, batch_size: 2",),
    "episodes: 0",
    decoder="type: toy",
    tasks="red",
    data="episodes_per_task: 3, validation: 0.34",
)


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
