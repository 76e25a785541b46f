"""Every recipe of the project is valid and builds; none needs real memory for that."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from videopolicy import Policy
from videopolicy.recipes.recipe import load_recipe
from videopolicy.training.planning import plan
from videopolicy.training.stages import build_learner

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted([*(ROOT / "recipes").glob("*.yaml"), *(ROOT / "docs" / "examples").rglob("*.yaml")])

DATA: Any = SimpleNamespace(fingerprint=lambda actions=True: f"data, actions: {actions}", files=lambda: ())


def test_the_recipes_are_found():
    names = {path.name for path in RECIPES}
    assert {"quickstart.yaml", "vpp_metaworld.yaml", "my_decoder.yaml"} <= names


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_builds_on_the_meta_device(path, tmp_path, monkeypatch):
    from videopolicy.storage.store import Store

    # Of weights that a recipe begins with, its author's own included.
    monkeypatch.setattr("videopolicy.training.planning.file_digest", str)
    recipe = load_recipe(path)
    with torch.device("meta"):
        learners = {
            target: build_learner(recipe, target, 0) for target in {"policy", *(s.target for s in recipe.train)}
        }
    for target, learner in learners.items():
        # diffusers makes the scalars that blend its spatial and temporal branches without asking for the device.
        real = sum(parameter.numel() for parameter in learner.parameters() if not parameter.is_meta)
        assert real < 100, f"{target} has {real} weights in real memory"
    policy = learners["policy"]
    assert isinstance(policy, Policy)
    assert policy.window == recipe.policy.window()
    own = {stage.name: DATA for stage in recipe.train if stage.data}
    for planned in plan(recipe, DATA, Store(tmp_path), own):
        for source, where in planned.sources:
            own = learners[planned.stage.target].get_submodule(where).state_dict()
            assert own.keys() == learners[source.stage.target].state_dict().keys()


def test_the_papers_sizes(tmp_path):
    """Table 13, column MetaWorld: 8 frames of 28 tokens of width 384, chunks of 4 actions, 1280 input channels."""
    recipe = load_recipe(ROOT / "recipes" / "vpp_metaworld.yaml")
    extractor, decoder = recipe.part("policy.extractor"), recipe.part("policy.decoder")
    layout = extractor.layout(recipe.benchmark.spaces())
    assert (layout.axes, layout.dim) == ((("frames", 8), ("latents", 28)), 384)
    assert extractor.channels == 1280
    assert (decoder.horizon, decoder.width, decoder.encoder_layers, decoder.decoder_layers, decoder.heads) == (
        4,
        384,
        4,
        4,
        8,
    )
    assert decoder.sampling_levels.steps == 10
    with torch.device("meta"):
        backbone = build_learner(recipe, "policy.extractor.backbone", 0)
    assert sum(parameter.numel() for parameter in backbone.unet.parameters()) == 1_524_623_082


def test_stages_that_compute_the_same_share_a_key(tmp_path):
    from videopolicy.storage.store import Store

    path = ROOT / "recipes" / "quickstart.yaml"
    keys = {}
    for overrides in (
        [],
        ["name=other", "eval.episodes=3", "train.policy.data_workers=2"],
        ["policy.decoder.width=64"],
        ["seed=1"],
        ["policy.extractor.backbone.stride=4"],
    ):
        recipe = load_recipe(path, overrides)
        keys[" ".join(overrides)] = [planned.key for planned in plan(recipe, DATA, Store(tmp_path))]
    video, policy = keys[""]
    assert keys["name=other eval.episodes=3 train.policy.data_workers=2"] == [video, policy]
    assert keys["policy.decoder.width=64"][0] == video and keys["policy.decoder.width=64"][1] != policy
    for other in ("seed=1", "policy.extractor.backbone.stride=4"):
        assert keys[other][0] != video and keys[other][1] != policy


def test_compositions_share_one_video_model(tmp_path):
    """What is learned from videos depends neither on the parts around it nor on how actions are scaled."""
    from videopolicy.storage.store import Store

    names = ("quickstart", "video_policy_metaworld_small", "every_step_dit_metaworld_small")
    recipes = [
        load_recipe(ROOT / "recipes" / f"{name}.yaml") for name in (*names, "one_step_action_unet_metaworld_small")
    ]
    video, policy = zip(*([one.key for one in plan(recipe, DATA, Store(tmp_path))] for recipe in recipes), strict=True)
    assert len(set(video)) == 1 and len(set(policy)) == 4
