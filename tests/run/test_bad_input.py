"""What a user sees when something outside of the code is wrong: one message, exit code 2, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import vpolicy
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]


def refused(runner: Any, *overrides: str) -> str:
    """Run in a process of its own, expect a refusal, and return what it said."""
    before = len(runner.output()) if (runner.folder / "output.txt").exists() else 0
    process = runner.start(*overrides)
    code = process.wait(200)
    said = runner.output()[before:]
    assert code == 2, said
    assert "Traceback" not in said
    return said


def refused_here(runner: Any, *overrides: str) -> str:
    """The same in this process, where what would be a traceback is raised."""
    done = vpolicy(runner.folder, "run", str(runner.recipe), *overrides, VPOLICY_HOME=str(runner.folder / "home"))
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "Traceback" not in said
    return said


def test_weights_with_other_keys_list_both_sides(uninterrupted: Any, tmp_path: Path) -> None:
    (stage,) = [
        path.parent
        for path in uninterrupted.folder.glob("home/stages/*/weights.safetensors")
        if "unet.conv_in.weight" in load_file(path)
    ]
    state = load_file(stage / "weights.safetensors")
    state["surplus.weight"] = state.pop("unet.conv_in.weight").clone()
    save_file(state, tmp_path / "weights.safetensors")
    (tmp_path / "config.json").write_text((stage / "config.json").read_text())
    said = refused_here(uninterrupted, f"train.video.init_from={tmp_path}", "name=other-keys")
    assert "1 keys are missing (unet.conv_in.weight), 1 are unexpected (surplus.weight)" in said
    (tmp_path / "weights.safetensors").write_bytes((tmp_path / "weights.safetensors").read_bytes()[:1000])
    assert f"The weights in {tmp_path} cannot be read" in refused_here(
        uninterrupted, f"train.video.init_from={tmp_path}", "name=other-keys"
    )
    said = refused_here(uninterrupted, f"train.video.init_from={tmp_path / 'nowhere'}", "name=other-keys")
    assert "there are no weights in" in said


def test_a_hub_that_cannot_be_reached_is_told_before_anything_else(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-m", "videopolicy", "run", str(ROOT / "recipes" / "vpp_metaworld.yaml")]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "hf download stabilityai/stable-video-diffusion-img2vid --local-dir FOLDER" in result.stderr
    assert "set `weights: FOLDER` in the recipe" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob(".vpolicy/datasets/*"))


def test_a_file_in_the_place_of_a_run_folder(uninterrupted: Any) -> None:
    (uninterrupted.folder / "runs" / "taken").write_text("")
    said = refused(uninterrupted, "name=taken")
    assert "runs/taken cannot be written" in said and "move it away" in said


@pytest.mark.slow
def test_a_full_disk_loses_nothing_that_was_finished(runner_in: Any, tmp_path: Path) -> None:
    mounted = tmp_path / "small-disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(mounted)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a disk that is small enough to fill")
    try:
        runner = runner_in(tmp_path / "full")
        runner.environment["VPOLICY_HOME"] = str(mounted)
        said = refused(runner, "eval.baselines=[]")
        assert str(mounted) in said and "Free some space" in said
        subprocess.run(["mount", "-o", "remount,size=300M", str(mounted)], check=True)
        runner.finish("eval.baselines=[]")
        assert len(runner.records()) == 10
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


@pytest.mark.slow
def test_a_simulator_that_keeps_dying_is_an_error_and_no_failure(uninterrupted: Any, runner_in: Any) -> None:
    changed = ("benchmark.dies_at=[1,4]", "data.path=" + str(data_of(uninterrupted)), "eval.baselines=[]")
    uninterrupted.finish(*changed, "name=dying")
    runner = runner_in(uninterrupted.folder)
    runner.run_folder = uninterrupted.folder / "runs" / "dying"
    broken = [record for record in runner.records() if record["error"]]
    assert {record["episode"] for record in broken} == {1}
    assert all("died during 'step'" in record["error"] and record["steps"] == 0 for record in broken)
    rest = [record for record in runner.records() if not record["error"]]
    assert (len(broken), len(rest)) == (2, 8)


def data_of(runner: Any) -> Path:
    (file, *_) = (runner.folder / "home" / "datasets").rglob("*.hdf5")
    return file.parent


def test_data_that_was_cut_short(uninterrupted: Any, tmp_path: Path) -> None:
    for file in data_of(uninterrupted).glob("*.hdf5"):
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content[: len(content) // 2])
    said = refused_here(uninterrupted, f"data.path={tmp_path}", "data.episodes_per_task=5", "name=cut")
    assert str(tmp_path) in said
