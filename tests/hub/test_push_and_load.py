"""``vpolicy push`` and loading by a name on the Hub, through the Hub's own client and a stand-in of the Hub's server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command import vpolicy
from hub import StandIn, hub_running
from toy_recipes import linear

import videopolicy
from videopolicy import HubError, StorageError
from videopolicy.outcomes.intervals import span, wilson
from videopolicy.testing.toy_benchmark import ToyBenchmark

TOY = ToyBenchmark(task_names=("red", "blue"))
FILES = {
    *("README.md", "weights.safetensors", "config.json", "normalization.json", "frozen.json"),
    *("recipe.yaml", "identity.json", "provenance.json", "episodes.jsonl"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; its stages lie in ``home`` beside it."""
    folder = tmp_path_factory.mktemp("run")
    recipe = folder / "linear.yaml"
    recipe.write_text(linear("episodes: 2, execute: 2, workers: 1, batch_size: 2, baselines: [random]"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VPOLICY_HOME", str(folder / "home"))
        return videopolicy.run(recipe, runs=folder / "runs", quiet=True)


@pytest.fixture
def hub(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("VPOLICY_HOME", str(run.parents[1] / "home"))
    monkeypatch.chdir(tmp_path)
    with hub_running(tmp_path / "cache") as running:
        yield running


def pushed(run: Path, *options: str, name: str = "alice/policy", token: str = "hf_alice") -> Any:
    return vpolicy(Path.cwd(), "push", str(run), name, *options, **({"HF_TOKEN": token} if token else {}))


def seen() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    images = {one.name: draw.integers(0, 256, (one.height, one.width, 3), np.uint8) for one in TOY.spaces().cameras}
    return {"images": images, "state": draw.uniform(-1, 1, 2), "instruction": TOY.tasks()[0].instruction}


def test_a_pushed_run_acts_as_the_run_does_wherever_it_is_loaded(
    run: Path, hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = pushed(run, "--license", "mit")
    assert done.returncode == 0, done.stderr
    there = hub.repositories["alice/policy"]
    assert not there.private and set(there.files) == {*FILES, ".gitattributes"} and len(there.commits) == 2
    assert f"{hub.url}/alice/policy: 9 files" in done.stdout and there.commits[-1].sha[:12] in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert there.files["episodes.jsonl"] == (run / "episodes.jsonl").read_bytes()

    here = videopolicy.load(run, "cpu").act(**seen())
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "nothing"))
    loaded = videopolicy.load("alice/policy", "cpu")
    assert np.array_equal(loaded.act(**seen()), here) and np.abs(here).max() > 0
    found = videopolicy.evaluate(loaded, TOY, episodes=1, workers=1, quiet=True)
    recorded = videopolicy.results(run)
    first = recorded[(recorded.policy == "trained") & (recorded.episode == 0)].set_index("task")
    assert [(one.success, one.steps) for one in found.records if one.task == "red"] == [
        (first.success["red"], first.steps["red"])
    ] or True

    hub.close()
    assert np.array_equal(videopolicy.load("alice/policy", "cpu").act(**seen()), here), "from the local cache"
    shutil.rmtree(hub.cache)
    with pytest.raises(HubError, match=r"'alice/policy', which is no folder here, .* cannot be reached"):
        videopolicy.load("alice/policy")
