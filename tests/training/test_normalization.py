"""Scaling of vectors: what is left as it is, what is stored, and what a stage depends on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from videopolicy import Observation, RecipeError, Window
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage.store import Store
from videopolicy.testing import toy_batch
from videopolicy.training.checkpoints import load_normalizer, save_normalization
from videopolicy.training.normalization import Normalizer, statistics_for
from videopolicy.training.planning import plan

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart.yaml"  # actions dx, dy, dz, gripper; state hand_x .. gripper_opening
MODES = ["normalization.actions=minmax", "normalization.state=minmax"]
UNSCALED = "normalization.unscaled=[dz, gripper, hand_y]"
MEASURED = Statistics(
    FieldStatistics([0.0, 2.0, 4.0, 0.0], [4.0, 4.0, 8.0, 0.5], [1.0] * 4, [2.0] * 4),
    FieldStatistics([1.0] * 4, [3.0] * 4, [2.0] * 4, [0.5] * 4),
)
DATA: Any = SimpleNamespace(fingerprint=lambda actions=True: f"data, actions: {actions}")


@pytest.mark.parametrize("mode", ["minmax", "standard", "identity"])
def test_named_dimensions_are_left_as_they_are_in_every_mode(mode, tmp_path):
    overrides = [f"normalization.actions={mode}", f"normalization.state={mode}", UNSCALED]
    recipe = load_recipe(QUICKSTART, overrides)
    save_normalization(tmp_path, recipe.normalization, statistics_for(recipe, MEASURED))
    normalizer = load_normalizer(tmp_path)  # knows no names any more
    plain = Normalizer(recipe.normalization, MEASURED)
    batch = toy_batch(recipe.benchmark.spaces(), Window(horizon=3, past_actions=2))
    free, scaled = normalizer.batch(batch), plain.batch(batch)
    for field, kept in (("actions", [2, 3]), ("past_actions", [2, 3]), ("state", [1])):
        given, found, otherwise = (
            one.actions if field == "actions" else getattr(one.observation, field) for one in (batch, free, scaled)
        )
        rest = [index for index in range(4) if index not in kept]
        assert torch.equal(found[..., kept].nan_to_num(), given[..., kept].nan_to_num()), field
        assert torch.equal(found[..., rest].nan_to_num(), otherwise[..., rest].nan_to_num()), field
        assert (mode == "identity") == torch.equal(found[..., rest].nan_to_num(), given[..., rest].nan_to_num()), field
    assert torch.allclose(normalizer.physical(free.actions), batch.actions, atol=1e-6)


def test_without_names_the_statistics_are_the_measured_ones():
    recipe = load_recipe(QUICKSTART, MODES)
    assert statistics_for(recipe, MEASURED) == MEASURED
    without_state = Statistics(MEASURED.actions)
    assert statistics_for(load_recipe(QUICKSTART, [*MODES, UNSCALED]), without_state).state is None


def test_unknown_past_actions_stay_unknown():
    recipe = load_recipe(QUICKSTART, [*MODES, UNSCALED])
    normalizer = Normalizer(recipe.normalization, statistics_for(recipe, MEASURED))
    past = torch.full((1, 2, 4), torch.nan)
    assert normalizer.observation(Observation({}, ["go"], None, past_actions=past)).past_actions.isnan().all()


def test_names_that_nothing_has_are_refused_with_near_ones():
    with pytest.raises(RecipeError) as caught:
        load_recipe(QUICKSTART, ["normalization.unscaled=[griper, dz]"])
    assert "normalization.unscaled: no action or state is called 'griper'. Did you mean 'gripper'?" in str(caught.value)
    assert "'dz'" not in str(caught.value)


def test_a_video_model_is_shared_by_recipes_that_scale_other_actions(tmp_path):
    def keys(*overrides: str) -> list[str]:
        recipe = load_recipe(QUICKSTART, overrides)
        return [planned.key for planned in plan(recipe, DATA, Store(tmp_path))]

    video, policy = keys()
    other_video, other_policy = keys("normalization.unscaled=[gripper]")
    assert video == other_video and policy != other_policy
    assert keys("normalization.unscaled=[hand_x]")[0] != video


def test_states_to_come_are_scaled_like_those_that_are_seen():
    recipe = load_recipe(QUICKSTART, MODES)
    normalizer = Normalizer(recipe.normalization, MEASURED)
    batch = toy_batch(recipe.benchmark.spaces(), Window(future_states=(1, 2)))
    found = normalizer.batch(batch)
    torch.testing.assert_close(found.future_state, batch.future_state - 2)  # 1 to 3 become -1 to 1
    assert torch.equal(found.future_state_mask, batch.future_state_mask)
    assert normalizer.batch(toy_batch(recipe.benchmark.spaces(), Window())).future_state is None
