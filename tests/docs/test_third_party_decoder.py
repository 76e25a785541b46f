"""A decoder from outside trains and acts in place of ours: from a single file, and from a package of its own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import uv
from children import vpolicy_apart

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
TOY = ROOT / "src" / "videopolicy" / "testing" / "toy_benchmark.py"
SMALL = (
    "benchmark={type: toy, image_size: 32, max_steps: 12, task_names: [red]}",
    "data={type: robomimic-hdf5, episodes_per_task: 6}",
    "policy.extractor.backbone.image_size=[32, 32]",
    "policy.extractor.backbone.stride=2",
    "policy.extractor.backbone.unet.channels=[32, 32]",
    "train.video.steps=4",
    "train.video.batch_size=4",
    "train.policy.steps=120",
    "train.policy.batch_size=16",
    "eval={episodes: 2, execute: 6, workers: 1, batch_size: 2}",
    "tracking=[]",
)


def vpolicy(*arguments: str, folder: Path, path: Path | None = None) -> str:
    """What a process says that must end well, for which what is installed at a path is installed, too."""
    more = {} if path is None else {"PYTHONPATH": str(path)}
    done = vpolicy_apart(folder, *arguments, VPOLICY_HOME=str(folder / "home"), NO_COLOR="1", **more)
    assert done.returncode == 0, done.stdout
    return done.stdout


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


def check_run(run: Path, plugin: str) -> None:
    """It has trained my decoder until its loss had fallen, and has evaluated it."""
    assert "type: my-decoder" in (run / "recipe.yaml").read_text()
    with (run / "train.csv").open() as file:
        losses = [
            float(row["value"])
            for row in csv.DictReader(file)
            if row["stage"] == "policy" and row["name"] == "loss/action"
        ]
    assert sum(losses[-3:]) < 0.75 * sum(losses[:3]), losses
    records = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    assert [(record["policy"], record["episode"], record["error"]) for record in records] == [
        ("trained", 0, None),
        ("trained", 1, None),
    ]
    assert plugin in json.loads((run / "provenance.json").read_text())["versions"]


@pytest.mark.slow
def test_from_a_single_file_named_by_the_recipe(workplace: Path) -> None:
    plugins = f"plugins=[./my_decoder.py, {TOY}]"
    vpolicy("run", str(EXAMPLES / "my_decoder.yaml"), *SMALL, plugins, "name=file", folder=workplace)
    check_run(workplace / "runs" / "file", "my_decoder.py")


@pytest.mark.slow
def test_from_a_package_with_one_entry_point(workplace: Path, package: Path) -> None:
    listed = vpolicy("plugins", folder=workplace, path=package)
    assert "my-decoder" in listed and "vpolicy-my-decoder 0.1.0" in listed
    recipe = ROOT / "recipes" / "quickstart.yaml"
    decoder = "policy.decoder={type: my-decoder, horizon: 12}"
    done = vpolicy(
        "run", str(recipe), *SMALL, decoder, f"plugins=[{TOY}]", "name=package", folder=workplace, path=package
    )
    check_run(workplace / "runs" / "package", "vpolicy-my-decoder")
    assert "collect demonstrations: done earlier" in done and "train video: done earlier" in done


def test_the_package_passes_the_conformance_tests(workplace: Path, package: Path) -> None:
    done = vpolicy("check", "my-decoder", "horizon=4", folder=workplace, path=package)
    assert " passed" in done and "failed" not in done
