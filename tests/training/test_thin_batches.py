"""Batches in which no action and no frame to come is there, through what the small recipes train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from videopolicy.recipes.recipe import load_recipe
from videopolicy.testing import toy_batch
from videopolicy.training.stages import build_learner

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SMALL = ["quickstart", *sorted(path.stem for path in RECIPES.glob("*_small.yaml"))]


def test_there_are_small_recipes_of_every_method():
    assert len(SMALL) >= 7


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_at_the_end_of_episodes_is_no_nan(name: str, rows: int):
    recipe = load_recipe(RECIPES / f"{name}.yaml")

    def none(mask: Tensor | None) -> Tensor | None:
        return None if mask is None else torch.zeros_like(mask)

    for target in {stage.target for stage in recipe.train}:
        learner = build_learner(recipe, target, 0).train()
        batch = toy_batch(recipe.benchmark.spaces(), learner.window, batch_size=rows)
        batch = replace(
            batch,
            future_mask=none(batch.future_mask),
            action_mask=none(batch.action_mask),
            actions=None if batch.actions is None else torch.full_like(batch.actions, torch.nan),
        )
        losses = learner.loss(batch)
        assert {name for name, value in losses.items() if not value.isfinite()} == set()
        assert losses.get("action", torch.zeros(())).item() == 0
        torch.stack(list(losses.values())).sum().backward()
        grads = {name: one.grad for name, one in learner.named_parameters() if one.grad is not None}
        assert grads and all(grad.isfinite().all() for grad in grads.values())
