"""The packages by which LeRobot finds our policies and CALVIN: their names, and what LeRobot itself does with them."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_recipes
from command import vpolicy

PYTHON = os.environ.get("VPOLICY_LEROBOT_PYTHON")
SOURCE = os.environ.get("VPOLICY_CALVIN_SOURCE")
SCRIPT = Path(__file__).with_name("lerobot_evaluation.py")
PACKAGES = Path(__file__).parents[1] / "packages"
NAMES = ("lerobot_env_calvin", "lerobot_policy_videopolicy")
SENTENCES = ("move the dot to the red square", "move the dot to the blue square")

needs_lerobot = pytest.mark.skipif(
    not PYTHON,
    reason="VPOLICY_LEROBOT_PYTHON names no interpreter of an environment with LeRobot, our packages for it and the "
    "plugins hdf5, svd and vpp: see plugins/lerobot/packages/README.md",
)


def modules(name: str) -> dict[str, ast.Module]:
    """The modules of a package by their names in it."""
    folder = PACKAGES / name / "src" / name
    return {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py"))}


@pytest.mark.parametrize("name", NAMES)
def test_lerobot_finds_the_package_by_its_name(name: str) -> None:
    """It imports every distribution whose name, as written, begins so, under that name."""
    assert sorted(path.name for path in PACKAGES.iterdir() if path.is_dir()) == list(NAMES)
    project = tomllib.loads((PACKAGES / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == name and name.startswith(("lerobot_policy_", "lerobot_env_"))
    assert any(one.startswith("lerobot>=") for one in project["dependencies"])
    registered = {
        call.args[0].value: node.name
        for tree in modules(name).values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for call in node.decorator_list
        if isinstance(call, ast.Call) and isinstance(call.args[0], ast.Constant)
    }
    assert registered == {"lerobot_env_calvin": {"calvin": "CalvinEnvConfig"}}.get(
        name, {"videopolicy": "VideoPolicyConfig"}
    )


def test_lerobot_finds_the_policy_beside_its_configuration() -> None:
    """XConfig in configuration_y, XPolicy in modeling_y, and make_TYPE_pre_post_processors in processor_y."""
    found = modules("lerobot_policy_videopolicy")
    of = {name: {one.name for one in tree.body if isinstance(one, ast.ClassDef | ast.FunctionDef)}
          for name, tree in found.items()}  # fmt: skip
    assert "VideoPolicyConfig" in of["configuration_videopolicy"] and "VideoPolicyPolicy" in of["modeling_videopolicy"]
    assert "make_videopolicy_pre_post_processors" in of["processor_videopolicy"]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_packages_use_of_ours_is_there(name: str) -> None:
    used = [
        (node.module, alias.name)
        for tree in modules(name).values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "videopolicy"
        for alias in node.names
    ]
    missing = [one for one in used if not hasattr(importlib.import_module(one[0]), one[1])]
    assert used and not missing


def asked(
    *arguments: str, folder: Path, module: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """What a process of LeRobot's environment says."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1"}
    what = [str(SCRIPT)] if module is None else ["-m", module]
    return subprocess.run(
        [str(PYTHON), *what, *arguments],
        capture_output=True, text=True, env={**os.environ, **offline, **variables}, cwd=folder, check=False,
    )  # fmt: skip


def said(*arguments: str, folder: Path) -> dict[str, Any]:
    done = asked(*arguments, folder=folder)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@needs_lerobot
def test_actions_through_lerobot_are_those_of_the_policy(tmp_path: Path) -> None:
    """A diffusion policy, two robots at once, more steps than a chunk has: the same to the last bit, noise included."""
    recipe = toy_recipes.video(
        ("name: policy, steps: 2, batch_size: 4",), "episodes: 0, execute: 3", data="episodes_per_task: 2"
    )
    (tmp_path / "recipe.yaml").write_text(recipe)
    home = {"VPOLICY_HOME": str(tmp_path / "home")}
    done = vpolicy(tmp_path, "run", "recipe.yaml", **home)
    assert not done.returncode, done.stderr
    done = vpolicy(tmp_path, "export", "runs/recipe", "-o", "exported", "--trust", **home)
    assert not done.returncode, done.stderr
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (2, 8, 16, 16, 3), np.uint8)
    states = random.uniform(0, 1, (2, 8, 2)).astype(np.float32)
    np.savez(tmp_path / "seen.npz", pictures=pictures, states=states, sentences=np.array(SENTENCES))
    found = said("actions", "exported", "seen.npz", "of-lerobot", folder=tmp_path)
    through, direct = np.array(found["through"]), np.array(found["direct"])
    assert through.shape == (2, 8, 2) and len(np.unique(through)) > 20
    assert np.array_equal(through, direct) and np.array_equal(np.array(found["folder"]), direct)
    assert "videopolicy" in (tmp_path / "of-lerobot/config.json").read_text()
    assert str(tmp_path) not in (tmp_path / "of-lerobot/config.json").read_text()


@needs_lerobot
def test_chains_give_a_reward_for_every_task_and_say_the_next_sentence(tmp_path: Path) -> None:
    found = said("chains", folder=tmp_path)
    assert found["rewards"] == [3.0, 0.0] and found["ended"] == [[True, False], [False, True], [True, False]]
    assert [color for one in found["told"] for color in ("red", "green", "blue") if color in one] == [
        "red", "green", "blue",
    ]  # fmt: skip
    assert 25 < found["steps"] < 75  # the second simulator, which nobody moved, failed after 25 steps, and rested then
    assert found["rested"] and found["same"] and found["rendered"] == [[64, 64, 3]] * 2


@pytest.mark.slow
@pytest.mark.simulator
@needs_lerobot
@pytest.mark.skipif(not SOURCE, reason="VPOLICY_CALVIN_SOURCE names no checkout of mees/calvin_env")
def test_lerobot_evaluates_its_own_policy_on_calvin(environments: Path, tmp_path: Path) -> None:
    """An ACT that was never trained, two chains, five steps a task."""
    done = asked(
        "--policy.type=act", "--policy.device=cpu", "--policy.pretrained_backbone_weights=null",
        "--policy.chunk_size=5", "--policy.n_action_steps=5", "--policy.dim_model=32", "--policy.n_heads=2",
        "--policy.dim_feedforward=64", "--env.type=calvin", "--env.rendering=tiny", "--env.episode_length=5",
        "--eval.n_episodes=2", "--eval.batch_size=2", "--output_dir=found",
        folder=tmp_path, module="lerobot.scripts.lerobot_eval", VPOLICY_HOME=str(environments),
    )  # fmt: skip
    assert not done.returncode, done.stderr
    found = json.loads((tmp_path / "found/eval_info.json").read_text())
    assert found["overall"]["n_episodes"] == 2 and found["overall"]["avg_sum_reward"] == 0.0
    assert list(found["per_group"]) == ["calvin_chains"] and len(found["overall"]["video_paths"]) == 2


@pytest.mark.slow
@needs_lerobot
def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    done = asked("--policy.type=videopolicy", "--policy.run=nowhere", "--policy.device=cpu", "--env.type=calvin",
                 "--env.task_names=[open_drawr]", folder=tmp_path, module="lerobot.scripts.lerobot_eval")  # fmt: skip
    assert done.returncode and "open_drawer" in done.stderr
