"""Recipes of the papers' sizes act in the real simulators: 20 steps with their own observations, actions and history.

Only the networks are narrow and their weights random.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch

from videopolicy import Policy
from videopolicy.bench.subject import unit_normalizer
from videopolicy.console.progress import Reporter
from videopolicy.evaluation.acting import PolicyActor
from videopolicy.evaluation.rollout import Rollout
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool
from videopolicy.training.stages import build_learner
from videopolicy.weights import random_weights

ROOT = Path(__file__).resolve().parents[2]
STEPS = 20
SHORT = {
    "libero": ("benchmark.preset=own", f"benchmark.max_steps={STEPS}", "benchmark.initial_states=random"),
    "robomimic": (f"benchmark.max_steps={STEPS}",),
}
"""What ends an episode early, by benchmark."""
NARROW = {
    "uva": {
        "policy.joint.latent": "{type: kl, channels: [32, 32, 32, 32, 32], layers: 1, latent_channels: 16}",
        "policy.joint.transformer": "{width: 32, depth: 1, heads: 2}",
        "policy.joint.video": "{width: 32, depth: 1, sampling_steps: 4}",
        "policy.joint.initial_weights": "null",
        "policy.action.head": "{width: 32, depth: 1, sampling_steps: 4}",
    },
    "every-step": {
        "policy.extractor.backbone.unet": (
            "{channels: [32, 32, 64, 64], heads: [1, 1, 2, 2], layers: 1, norm_epsilon: sgm, time_ids_width: 32}"
        ),
        "policy.extractor.backbone.latent": "{type: vae, channels: [32, 32, 32, 32], layers: 1}",
        "policy.extractor.backbone.text": "{type: word-text}",
        "policy.extractor.adapter": (
            "{stages: [[16, 2], [16, 2], [16, 2], [16, 2], [16, 2]], merges: [[8, 2], [8, 2], [8, 2], [8, 2]], "
            "squeeze: [[8, 2]], trunk: [[16, 2]], deep_layers: 0, blocks: 1, halving_blocks: 1, deep_groups: 2, "
            "norm_groups: 4}"
        ),
        "policy.decoder": "{type: action-unet, horizon: 32, down_dims: [32, 32, 32], sampling_levels: {steps: 2}}",
    },
    "image": {"policy.extractor.encoder": "{type: resnet, layers: [1, 1, 1, 1], channels: [16, 16, 32, 32]}"},
    "unet-diffusion": {"policy.decoder.down_dims": "[32, 32, 32]", "policy.decoder.diffusion.sampling_steps": "4"},
    "transformer-diffusion": {"policy.decoder.width": "32", "policy.decoder.layers": "1"},
}
"""What makes networks narrow, by the part that has them."""
RECIPES = [
    path
    for path in sorted((ROOT / "recipes").glob("*.yaml"))
    if any(f"type: {name}\n" in path.read_text("utf-8") for name in SHORT) and "small" not in path.stem
]


def narrow(recipe: Recipe) -> list[str]:
    policy = recipe.policy
    parts = [policy.type]
    if policy.type == "modular":
        parts = [policy.extractor.type, policy.decoder.type]
    return [f"{where}={value}" for part in parts for where, value in NARROW.get(part, {}).items()]


def test_the_recipes_of_the_papers_are_among_them():
    names = {path.stem for path in RECIPES}
    assert names >= {f"{method}_libero10" for method in ("video_policy", "uva", "diffusion_policy")} | {"uva_toolhang"}


@pytest.mark.slow
@pytest.mark.simulator
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_acts_with_random_weights(path: Path, tmp_path: Path, environments: Path):
    full = load_recipe(path)
    task = full.benchmark.tasks()[0].name
    settings = [*SHORT[full.benchmark.type], "eval.episodes=1", "eval.workers=1", "eval.batch_size=1"]
    if full.benchmark.type == "libero":
        settings.append(f"benchmark.task_names=[{task}]")
    recipe = load_recipe(path, [*narrow(full), *settings])
    spaces = recipe.benchmark.spaces()
    assert (recipe.policy.window(), spaces) == (full.policy.window(), full.benchmark.spaces())
    assert recipe.eval.execute == full.eval.execute
    torch.manual_seed(0)
    with random_weights():
        policy = cast(Policy, build_learner(recipe, "policy", 0))
    actor = PolicyActor(policy, unit_normalizer(recipe, spaces), spaces.actions, torch.device("cpu"))
    python = interpreter(recipe.benchmark.launch(), environments)
    log = EpisodeLog(tmp_path / "episodes.jsonl")
    with WorkerPool(recipe.benchmark.launch(), python, 1, tmp_path, spaces) as pool:
        rollout = Rollout(
            actor, "untrained", recipe.policy.window(), spaces.actions.dim, recipe.eval, pool, log, "", 0, Reporter()
        )
        rollout.run(recipe.benchmark.tasks())
    (record,) = log.read()
    assert (record.steps, record.success, record.error) == (STEPS, False, None)
    assert len(rollout.chunk_seconds) == -(-STEPS // recipe.eval.execute)
