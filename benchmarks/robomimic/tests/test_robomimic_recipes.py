"""Every recipe for robomimic acts in the simulator: one episode with its own observations, actions and history."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
import torch

from videopolicy import Policy
from videopolicy.bench.subject import unit_normalizer
from videopolicy.console.progress import Reporter
from videopolicy.evaluation.acting import PolicyActor
from videopolicy.evaluation.rollout import Rollout
from videopolicy.recipes.recipe import load_recipe
from videopolicy.results.records import EpisodeLog
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.store import Store
from videopolicy.training.stages import build_learner
from videopolicy.weights import random_weights

ROOT = next(parent for parent in Path(__file__).parents if (parent / "requirements.lock").exists())
STEPS = 20
REDUCED = {
    "uva": (
        "policy.joint.latent={type: kl, channels: [32, 32, 32, 32, 32], layers: 1, latent_channels: 16}",
        "policy.joint.transformer={width: 32, depth: 1, heads: 2}",
        "policy.joint.video={width: 32, depth: 1, sampling_steps: 4}",
        "policy.joint.initial_weights=null",
        "policy.action.head={width: 32, depth: 1, sampling_steps: 4}",
    ),
}
"""What makes a recipe's networks narrow, by type of policy; what they see and do stays."""

RECIPES = [path for path in sorted((ROOT / "recipes").glob("*.yaml")) if "type: robomimic\n" in path.read_text("utf-8")]


def test_there_are_recipes():
    assert "uva_toolhang" in [path.stem for path in RECIPES]


@pytest.mark.simulator
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_acts_with_random_weights(path, tmp_path):
    full = load_recipe(path)
    settings = (f"benchmark.max_steps={STEPS}", "eval.episodes=1", "eval.workers=1", "eval.batch_size=1")
    recipe = load_recipe(path, [*REDUCED[full.policy.type], *settings])
    spaces = recipe.benchmark.spaces()
    assert (recipe.policy.window(), spaces) == (full.policy.window(), full.benchmark.spaces())
    assert recipe.eval.execute == full.eval.execute
    torch.manual_seed(0)
    with random_weights():
        policy = cast(Policy, build_learner(recipe, "policy", 0))
    actor = PolicyActor(policy, unit_normalizer(recipe, spaces), spaces.actions, torch.device("cpu"))
    python = interpreter(
        recipe.benchmark.launch(), Store(None if os.environ.get("VPOLICY_HOME") else ROOT / ".vpolicy").root
    )
    log = EpisodeLog(tmp_path / "episodes.jsonl")
    with WorkerPool(recipe.benchmark.launch(), python, 1, tmp_path, spaces) as pool:
        rollout = Rollout(
            actor, "untrained", recipe.policy.window(), spaces.actions.dim, recipe.eval, pool, log, "", 0, Reporter()
        )
        rollout.run(recipe.benchmark.tasks())
    (record,) = log.read()
    assert (record.steps, record.success, record.error) == (STEPS, False, None)
    assert len(rollout.chunk_seconds) == -(-STEPS // recipe.eval.execute)
