"""What is built for the registry works without the checkout: in a fresh environment, from an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    ROOT,
    *sorted(
        file.parent for file in (*ROOT.glob("benchmarks/*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml"))
    ),
]
OUTSIDE = {
    name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "VPOLICY_HOME")
}
FEW = [
    "train.video.steps=2",
    "train.policy.steps=2",
    "data.episodes_per_task=1",
    "eval.episodes=1",
    "eval.baselines=[]",
]
ONE_TASK = ["benchmark.task_names=[button-press-topdown-v3]", "name=tiny"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run(["sh", ROOT / "scripts" / "wheels.sh", folder], check=True, env=OUTSIDE)
    return folder


@pytest.fixture(scope="module")
def environment(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the wheels and what they say that they need, in the versions that are locked."""
    folder = tmp_path_factory.mktemp("environment")
    program = uv.find_uv_bin()
    subprocess.run([program, "venv", "--quiet", "--python", sys.executable, "--clear", folder], check=True, env=OUTSIDE)
    command = [program, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "--find-links", wheels]
    command += ["--constraint", ROOT / "requirements.lock", "videopolicy[all]"]
    subprocess.run(command, check=True, env=OUTSIDE, cwd=folder)
    return folder / "bin"


def call(program: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], cwd=folder, env=OUTSIDE, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_core_wheel_has_what_is_no_module(wheels: Path) -> None:
    names = zipfile.ZipFile(next(wheels.glob("videopolicy-*.whl"))).namelist()
    shipped = {name.removeprefix("videopolicy/shipped_") for name in names if "/shipped_recipes/" in name}
    assert shipped == {file.relative_to(ROOT).as_posix() for file in (ROOT / "recipes").rglob("*") if file.is_file()}
    templates = ROOT / "src" / "videopolicy" / "scaffold" / "templates"
    assert sum(name.endswith(".jinja") for name in names) == len(list(templates.rglob("*.jinja"))) > 20
    assert not [name for name in names if name.split("/")[0] not in ("videopolicy", "videopolicy-0.1.0.dist-info")]


@pytest.mark.slow
def test_the_environment_has_every_package_and_nothing_of_the_checkout(environment: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.metadata as m, videopolicy, vpolicy_worker;"
        "print(videopolicy.__file__, vpolicy_worker.__file__);"
        "print(*sorted(d.name for d in m.distributions() if d.name.startswith(('vpolicy-', 'videopolicy'))))"
    )
    files, names = call(environment / "python", tmp_path, "-c", code).splitlines()
    assert all(Path(file).is_relative_to(environment.parent) for file in files.split())
    assert len(names.split()) == len(PACKAGES)


@pytest.mark.slow
@pytest.mark.simulator
def test_the_quickstart_runs_by_its_name_from_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    assert "quickstart" in call(environment / "vpolicy", tmp_path, "recipes").split()
    call(environment / "vpolicy", tmp_path, "run", "quickstart", *FEW, *ONE_TASK)
    assert {path.name for path in tmp_path.iterdir()} == {".vpolicy", "runs"}
    run = tmp_path / "runs" / "tiny"
    assert len((run / "episodes.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["commit"] is None
    assert provenance["versions"]["vpolicy-metaworld"] == "0.1.0"
    assert (run / "report.html").stat().st_size > 10_000
