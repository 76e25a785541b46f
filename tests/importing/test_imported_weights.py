"""Stages that begin with imported weights: taken as they are, or trained on, the frozen ones kept either way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from videopolicy import FieldStatistics, Statistics
from videopolicy.bench.settings import Settings
from videopolicy.bench.subject import Subject, trained_stages
from videopolicy.console.progress import Reporter
from videopolicy.errors import RecipeError, WeightsError
from videopolicy.recipes.recipe import Normalization, Recipe, load_recipe
from videopolicy.running import run
from videopolicy.storage.store import Store
from videopolicy.training.checkpoints import save_weights
from videopolicy.training.inputs import ensure_initial_weights
from videopolicy.training.planning import plan
from videopolicy.training.session import Session
from videopolicy.training.stages import build_learner, load_policy, load_sources, train

PARTS = Path(__file__).with_name("parts.py")
HEAD = f"""\
plugins: [{PARTS}]
benchmark: {{type: toy, task_names: [red], max_steps: 3}}
policy: {{type: halves}}
eval: {{episodes: 1, workers: 1, batch_size: 1}}
normalization: {{actions: minmax}}
tracking: []
"""
UNIT = FieldStatistics([-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0])
STATISTICS = Statistics(FieldStatistics([-2.0, 0.0], [2.0, 4.0], [0.0, 2.0], [1.0, 1.0]), UNIT)


def recipe_of(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(HEAD + text)
    return load_recipe(path)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder as `vpolicy import` writes it: everything in it, and how actions are scaled."""
    recipe = recipe_of(tmp_path, "train: [{name: x, steps: 0, init_from: nowhere}]")
    policy = build_learner(recipe, "policy", 123).requires_grad_(True)
    folder = tmp_path / "weights"
    folder.mkdir()
    save_weights(policy, folder, {}, Normalization(actions="minmax"), STATISTICS)
    return folder


TAKEN = "train: [{{name: imported, init_from: {weights}, steps: 0}}]"
TRAINED = """\
data: {{type: pictures}}
train: [{{name: tune, init_from: {weights}, steps: 3, batch_size: 2, optimizer: {{learning_rate: 0.1}}}}]
"""


def trained(recipe: Recipe, store: Store) -> Any:
    dataset = recipe.data.build(None) if recipe.data else None
    planned = plan(recipe, dataset, store)
    for one in planned:
        train(Session(recipe, store, torch.device("cpu"), Reporter(quiet=True)), one, dataset)
    return planned


def test_frozen_weights_of_init_from_survive_training(tmp_path: Path, weights: Path) -> None:
    recipe = recipe_of(tmp_path, TRAINED.format(weights=weights))
    planned = trained(recipe, Store(tmp_path / "home"))
    assert "frozen.weight" not in load_file(planned[0].folder / "weights.safetensors")
    policy, _ = load_policy(recipe, planned)
    imported = load_file(weights / "weights.safetensors")
    assert torch.equal(policy.frozen.weight, imported["frozen.weight"])
    assert not torch.equal(policy.trained.weight, imported["trained.weight"])


def test_a_later_stage_starts_from_the_frozen_weights_of_an_earlier_one(tmp_path: Path, weights: Path) -> None:
    text = TRAINED.format(weights=weights).rstrip()[:-1] + ", {name: again, steps: 2, batch_size: 2}]\n"
    recipe = recipe_of(tmp_path, text)
    planned = trained(recipe, Store(tmp_path / "home"))
    learner = build_learner(recipe, "policy", recipe.seed)
    load_sources(learner, planned[1])
    assert torch.equal(learner.frozen.weight, load_file(weights / "weights.safetensors")["frozen.weight"])
    assert torch.equal(learner.trained.weight, load_file(planned[0].folder / "weights.safetensors")["trained.weight"])


def test_no_steps_take_weights_and_scaling_as_they_are(tmp_path: Path, weights: Path) -> None:
    recipe = recipe_of(tmp_path, TAKEN.format(weights=weights))
    store = Store(tmp_path / "home")
    planned = trained(recipe, store)
    policy, normalizer = load_policy(recipe, planned)
    for name, value in load_file(weights / "weights.safetensors").items():
        assert torch.equal(policy.state_dict()[name], value)
    assert normalizer.physical(torch.tensor([[[1.0, -1.0]]])).tolist() == [[[2.0, 0.0]]]
    assert planned[0].facts.steps == 0
    # The scaling that comes with the weights is taken before that of any data, and weights are known by content.
    with_data = recipe_of(tmp_path, "data: {type: pictures}\n" + TAKEN.format(weights=weights))
    assert trained(with_data, store)[0].key == planned[0].key
    moved = weights.rename(tmp_path / "elsewhere")
    again = recipe_of(tmp_path, TAKEN.format(weights=moved))
    assert plan(again, None, store)[0].key == planned[0].key
    state = load_file(moved / "weights.safetensors")
    save_file({**state, "trained.bias": state["trained.bias"] + 1}, moved / "weights.safetensors")
    assert plan(again, None, store)[0].key != planned[0].key


@pytest.mark.parametrize("text", [TAKEN, TRAINED])
def test_what_is_measured_are_the_imported_weights(tmp_path: Path, weights: Path, text: str) -> None:
    recipe, store = recipe_of(tmp_path, text.format(weights=weights)), Store(tmp_path / "home")
    planned = trained(recipe, store)
    found = trained_stages(recipe, None, store, Reporter(quiet=True))
    assert found is not None and found.origin == "trained by this recipe"
    policy, _ = load_policy(recipe, planned)
    for name, value in Subject(recipe, Settings("cpu"), found).policy.state_dict().items():
        assert torch.equal(value, policy.state_dict()[name]), name


def test_weights_that_are_not_there_are_measured_at_random(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, TAKEN.format(weights="nowhere"))
    assert trained_stages(recipe, None, Store(tmp_path / "home"), Reporter(quiet=True)) is None


def test_weights_without_scaling_get_that_of_the_data(tmp_path: Path, weights: Path) -> None:
    (weights / "normalization.json").unlink()
    recipe = recipe_of(tmp_path, "data: {type: pictures}\n" + TAKEN.format(weights=weights))
    _, normalizer = load_policy(recipe, trained(recipe, Store(tmp_path / "home")))
    assert normalizer.physical(torch.tensor([[[1.0, -1.0]]])).tolist() == [[[1.0, -1.0]]]
    bare = recipe_of(tmp_path, TAKEN.format(weights=weights))
    with pytest.raises(WeightsError, match=r"train\.imported\.init_from: .* has no normalization\.json") as refused:
        ensure_initial_weights(bare)
    assert "--recipe" in refused.value.hint
    with pytest.raises(WeightsError, match="there are no weights in"):
        ensure_initial_weights(recipe_of(tmp_path, TAKEN.format(weights="nowhere")))


def test_weights_of_another_size_are_refused_without_being_loaded(tmp_path: Path, weights: Path) -> None:
    state = load_file(weights / "weights.safetensors")
    save_file({**state, "trained.bias": torch.zeros(3)}, weights / "weights.safetensors")
    with pytest.raises(WeightsError, match=r"trained\.bias is \(3,\) in the file and \(8,\) in the model"):
        trained(recipe_of(tmp_path, TAKEN.format(weights=weights)), Store(tmp_path / "home"))


def test_recipes_say_what_is_missing_for_their_steps(tmp_path: Path) -> None:
    for text, said in {
        "train: [{name: x, steps: 3, batch_size: 1}]": "data: this field is required: stage 'x' trains on it",
        "train: [{name: x, steps: 0}]": "train.0.steps: 0 steps take weights as they are: init_from must name",
        "data: {type: pictures}\ntrain: [{name: x, steps: 3}]": "train.0.batch_size: this field is required",
    }.items():
        with pytest.raises(RecipeError) as refused:
            recipe_of(tmp_path, text)
        assert said in refused.value.message
    with pytest.raises(RecipeError, match="has no data"):
        recipe_of(tmp_path, TAKEN.format(weights="weights")).required_data()


def test_imported_weights_are_evaluated_without_data(tmp_path: Path, weights: Path) -> None:
    recipe = recipe_of(tmp_path, TAKEN.format(weights=weights))
    stages = tmp_path / "home" / "stages"
    made = []
    for _ in range(2):  # the second time nothing is left to do
        folder = run(recipe, tmp_path / "runs", Reporter(quiet=True), Store(tmp_path / "home"))
        made.append([path.stat().st_mtime_ns for path in sorted(stages.rglob("normalization.json"))])
    records = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    assert [record["policy"] for record in records] == ["trained"] and records[0]["error"] is None
    stage = json.loads((folder / "provenance.json").read_text())["stages"][0]
    assert (stage["steps"], stage["reused"]) == (0, False)
    assert made[0] == made[1] and len(made[0]) == 1
    assert (folder / "report.html").is_file()
