"""A decoder from outside trains and acts in place of ours: from a single file, and from a package of its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
TOY = ROOT / "src" / "videopolicy" / "testing" / "toy_benchmark.py"
SMALL = (
    "benchmark={type: toy, image_size: 32, max_steps: 12, task_names: [red, blue]}",
    "data={type: robomimic-hdf5, episodes_per_task: 6}",
    "policy.extractor.backbone.image_size=[32, 32]",
    "policy.extractor.backbone.stride=2",
    "train.video.steps=4",
    "train.video.batch_size=4",
    "train.policy.steps=200",
    "train.policy.batch_size=16",
    "eval.episodes=2",
    "eval.workers=1",
)


def vpolicy(*arguments: str, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VPOLICY_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    code = "from videopolicy.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by both tests, so that the second one finds data and video model trained."""
    return tmp_path_factory.mktemp("third_party")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-deps", "--python", sys.executable]
    subprocess.run([*command, "--target", str(target), str(EXAMPLES / "vpolicy-my-decoder")], check=True)
    return target


def check_run(run: Path, plugins: list[str]) -> None:
    """It has trained my decoder until its loss had fallen, and has evaluated it."""
    assert "type: my-decoder" in (run / "recipe.yaml").read_text()
    with (run / "train.csv").open() as file:
        losses = [
            float(row["value"])
            for row in csv.DictReader(file)
            if row["stage"] == "policy" and row["name"] == "loss/action"
        ]
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    records = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    tried = {(r["task"], r["episode"]) for r in records if r["policy"] not in ("untrained", "random")}
    assert tried == {(task, episode) for task in ("red", "blue") for episode in (0, 1)}
    assert not any(record["error"] for record in records)
    provenance = (run / "provenance.json").read_text()
    for name in plugins:
        assert name in provenance


def test_from_a_single_file_named_by_the_recipe(workplace: Path) -> None:
    plugins = f"plugins=[./my_decoder.py, {TOY}]"
    vpolicy("run", str(EXAMPLES / "my_decoder.yaml"), *SMALL, plugins, "name=file", folder=workplace)
    check_run(workplace / "runs" / "file", ["my_decoder.py"])


def test_from_a_package_with_one_entry_point(workplace: Path, package: Path) -> None:
    listed = vpolicy("plugins", folder=workplace, path=package).stdout
    assert "my-decoder" in listed and "vpolicy-my-decoder 0.1.0" in listed
    recipe = ROOT / "recipes" / "quickstart.yaml"
    decoder = "policy.decoder={type: my-decoder, horizon: 12}"
    done = vpolicy(
        "run", str(recipe), *SMALL, decoder, f"plugins=[{TOY}]", "name=package", folder=workplace, path=package
    )
    check_run(workplace / "runs" / "package", ["vpolicy-my-decoder 0.1.0"])
    assert "video: trained earlier" in done.stderr


def test_the_package_passes_the_conformance_tests(workplace: Path, package: Path) -> None:
    done = vpolicy("check", "my-decoder", "horizon=4", folder=workplace, path=package)
    assert " passed" in done.stdout and "failed" not in done.stdout
