"""Exported policies hold what was trained; published weights are named by id and revision, and compared on loading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command import vpolicy
from hub import StandIn, hub_running
from safetensors.torch import load_file
from small_clip import write_clip
from toy_recipes import video

import videopolicy
from videopolicy import WeightsError
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.deployment import DeployedPolicy
from videopolicy.recipes.recipe import Normalization, load_recipe
from videopolicy.storage.provenance import Provenance, StageFacts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.training.checkpoints import save_weights
from videopolicy.training.stages import build_learner

RECIPE = video(
    ("name: policy, steps: 1, batch_size: 1",),
    "episodes: 0",
    decoder="type: dit-diffusion, horizon: 4, width: 32, heads: 2, sampling_levels: {steps: 2}, "
    "text: {type: clip-text, weights: acme/clip, max_length: 8, width: 32, pooled_width: 32}",
)


def clip_files(folder: Path, seed: int) -> dict[str, bytes]:
    torch.manual_seed(seed)
    write_clip(folder, 32)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    return files


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with hub_running(tmp_path / "cache") as running:
        running.add("acme/clip", clip_files(tmp_path / "clip", 0))
        yield running


def finished(folder: Path) -> Path:
    """A run as training leaves it, with weights that nothing has trained, on a frozen text encoder from the Hub."""
    run = RunFolder(folder / "runs" / "with-clip")
    run.path.mkdir(parents=True)
    run.recipe_file.write_text(f"name: with-clip\n{RECIPE}", encoding="utf-8")
    recipe = load_recipe(run.recipe_file)
    learner = build_learner(recipe, "policy", 1)
    facts = StageFacts(name="policy", target="policy", key="0" * 16, steps=1)
    stage = Store(folder / "home").folder("stages", facts.key)
    unit = FieldStatistics([-1.0] * 2, [1.0] * 2, [0.0] * 2, [1.0] * 2)
    save_weights(learner, stage, recipe.policy.model_dump(mode="json"), Normalization(), Statistics(unit, unit))
    Store.finish(stage, facts.model_dump(mode="json"))
    run.write_provenance(Provenance(name="with-clip", stages=(facts,)))
    return run.path


def chunk(policy: DeployedPolicy) -> np.ndarray:
    images = {one.name: np.full((one.height, one.width, 3), 99, np.uint8) for one in ToyBenchmark().spaces().cameras}
    return policy.act(images, np.zeros(2), "go to the red square")


def test_published_weights_are_those_of_the_revision_that_was_trained_with(hub: StandIn, tmp_path: Path) -> None:
    run = finished(tmp_path)
    expected = chunk(videopolicy.load(run, "cpu"))
    done = vpolicy(tmp_path, "push", str(run), "alice/policy", HF_TOKEN="hf_alice")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "runs")
    first = hub.repositories["acme/clip"].commits[0]
    files = hub.repositories["alice/policy"].files
    (tmp_path / "held").write_bytes(files["weights.safetensors"])
    assert not [name for name in load_file(tmp_path / "held") if ".text.model." in name]
    facts = json.loads(files["frozen.json"])
    (named,) = facts["published"]
    assert (named["option"], named["id"], named["revision"]) == ("policy.decoder.text.weights", "acme/clip", first.sha)
    assert sum(".text.model." in name for name in facts["digests"]) > 10
    card = files["README.md"].decode()
    assert "base_model:\n- acme/clip\n" in card and f"(https://huggingface.co/acme/clip/tree/{first.sha})" in card
    assert "It was not evaluated." in card

    hub.add("acme/clip", clip_files(tmp_path / "clip", 1))
    shutil.rmtree(hub.cache)
    assert np.array_equal(chunk(videopolicy.load("alice/policy", "cpu")), expected)
    hub.close()
    assert np.array_equal(chunk(videopolicy.load("alice/policy", "cpu")), expected), "from the local cache"


def test_other_weights_than_those_of_training_are_not_taken_for_them(hub: StandIn, tmp_path: Path) -> None:
    run = finished(tmp_path)
    assert vpolicy(tmp_path, "export", str(run), "-o", "given").returncode == 0
    given = tmp_path / "given"
    first = hub.repositories["acme/clip"].commits.pop()  # its history is gone
    hub.add("acme/clip", clip_files(tmp_path / "clip", 1))
    shutil.rmtree(hub.cache)
    with pytest.raises(
        WeightsError, match=r"frozen tensors are not those that the policy in .*given was trained with"
    ) as e:
        videopolicy.load(given, "cpu")
    assert f"acme/clip at revision {first.sha} (policy.decoder.text.weights)" in e.value.hint
    for name, data in first.files.items():  # a copy of the same files is as good
        (tmp_path / "acme" / "clip").mkdir(parents=True, exist_ok=True)
        (tmp_path / "acme" / "clip" / name).write_bytes(data)
    assert videopolicy.load(given, "cpu").name == "with-clip"
    (given / "frozen.json").unlink()
    with pytest.raises(WeightsError, match=r"holds no weights of .*, and frozen\.json does not say what they must be"):
        videopolicy.load(given, "cpu")
