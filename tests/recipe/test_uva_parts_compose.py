"""UVA's action head on other methods' features, and their decoders on UVA's joint latent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from videopolicy.errors import RecipeError
from videopolicy.recipes.recipe import load_recipe
from videopolicy.testing import toy_batch
from videopolicy.training.stages import build_learner
from videopolicy.types import RowGenerator

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
HEAD = "head: {width: 32, depth: 1, sampling_steps: 4}"


@pytest.mark.parametrize(
    ("recipe", "change", "horizon"),
    [
        ("quickstart", f"policy.decoder={{type: uva-action, horizon: 12, aggregation: fc2, {HEAD}}}", 12),
        (
            "video_policy_metaworld_small",
            f"policy.decoder={{type: uva-action, horizon: 16, level_per: chunk, {HEAD}}}",
            16,
        ),
        (
            "uva_metaworld_small",
            "policy.action={type: dit-diffusion, horizon: 16, text: {type: word-text}, width: 32, heads: 2}",
            16,
        ),
        (
            "uva_metaworld_small",
            "policy.action={type: action-unet, horizon: 16, down_dims: [16, 32], step_dim: 16}",
            16,
        ),
    ],
)
def test_heads_and_features_swap(recipe: str, change: str, horizon: int) -> None:
    loaded = load_recipe(RECIPES / f"{recipe}.yaml", [change])
    policy = build_learner(loaded, "policy", seed=0)
    batch = toy_batch(loaded.benchmark.spaces(), policy.window)
    torch.manual_seed(0)
    torch.stack(list(policy.train().loss(batch).values())).sum().backward()
    head = policy.action if recipe.startswith("uva") else policy.decoder
    assert any(one.grad is not None and one.grad.abs().any() for one in head.parameters())
    chunks = [policy.eval().act(batch.observation, RowGenerator.from_seeds([0, seed])) for seed in (1, 2)]
    assert chunks[0].shape == (2, horizon, 4) and torch.isfinite(chunks[0]).all()
    assert torch.equal(chunks[0][0], chunks[1][0]) and not torch.equal(chunks[0][1], chunks[1][1])


def test_a_head_that_needs_a_grid_is_refused_where_there_is_none() -> None:
    with pytest.raises(RecipeError, match=r"conv_fc needs a grid, and the features are 2 frames x 8 latents") as caught:
        load_recipe(RECIPES / "quickstart.yaml", ["policy.decoder={type: uva-action, horizon: 12}"])
    assert "use fc2 or conv2" in caught.value.message


def test_a_policy_guided_by_a_joint_model_acts() -> None:
    loaded = load_recipe(RECIPES / "uva_dynamics_metaworld_small.yaml", ["policy.samples=3", "policy.batch=4"])
    spaces = loaded.benchmark.spaces()
    assert loaded.policy.check(spaces) == []
    policy = build_learner(loaded, "policy", seed=0).eval()
    observation = toy_batch(spaces, policy.window).observation
    chunks = [policy.act(observation, RowGenerator.from_seeds([0, 1])) for _ in range(2)]
    assert chunks[0].shape == (2, policy.proposer.window.horizon, 4) and torch.equal(chunks[0], chunks[1])
    assert policy.video_model() is policy.dynamics
