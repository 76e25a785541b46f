"""Diffusion Policy's recipes say what its code and the papers that train it as their baseline say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from videopolicy.recipes.ablation import load_ablation
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.training.stages import build_learner

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TASKS = ("pusht", "pusht_multitask", "toolhang", "libero10")


def recipe_of(name: str) -> Recipe:
    return load_recipe(RECIPES / f"diffusion_policy_{name}.yaml")


def built(recipe: Recipe) -> nn.Module:
    with torch.device("meta"):
        return build_learner(recipe, "policy", 0)


def millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize("name", ["pusht_multitask", "toolhang"])
def test_the_cnn_variant_is_the_published_configuration(name):
    recipe = recipe_of(name)
    window, decoder, (stage,) = recipe.policy.window(), recipe.part("policy.decoder"), recipe.train
    assert (window.observed, window.horizon, recipe.eval.execute, recipe.eval.episodes) == ((-1, 0), 16, 8, 50)
    assert (decoder.down_dims, decoder.diffusion.training_steps, decoder.diffusion.sampling_steps) == (
        (512, 1024, 2048),
        100,
        100,
    )
    optimizer, schedule = stage.optimizer, stage.schedule
    assert (optimizer.learning_rate, optimizer.betas, optimizer.weight_decay) == (1e-4, (0.95, 0.999), 1e-6)
    assert (schedule.type, schedule.warmup_steps, stage.batch_size) == ("cosine", 500, 64)
    assert (stage.ema_decay, stage.ema_warmup) == (0.9999, 0.75)


@pytest.mark.parametrize(
    ("name", "episodes", "held_out", "steps"),
    [("pusht_multitask", 247, 5, 247 * 25_650 / 206), ("toolhang", 200, 4, 96_000)],
)
def test_steps_follow_from_the_data_and_3050_epochs(name, episodes, held_out, steps):
    windows = (episodes - held_out) * (steps / episodes - 7)
    assert recipe_of(name).train[0].steps == 3050 * -(-windows // 64)


def test_pusht_multitask_differs_from_pusht_in_its_goals():
    one, many = recipe_of("pusht"), recipe_of("pusht_multitask")
    uva = load_recipe(RECIPES / "uva_pusht_multitask.yaml")
    assert (one.benchmark.goals, many.benchmark.goals) == ("fixed", "random")
    assert one.policy == many.policy and (many.benchmark, many.data) == (uva.benchmark, uva.data)


def test_tool_hang_is_seen_from_both_cameras_with_the_state():
    recipe = recipe_of("toolhang")
    uva = load_recipe(RECIPES / "uva_toolhang.yaml")
    assert [camera.name for camera in recipe.benchmark.spaces().cameras] == ["sideview", "robot0_eye_in_hand"]
    assert recipe.part("policy.extractor").crop == (216, 216)
    assert recipe.normalization == uva.normalization and recipe.data.actions == uva.data.actions
    policy = built(recipe)
    assert policy.extractor.layout.dim == 2 * 64 + 9
    # ResNet-18 with keypoints for each camera; the official `ConditionalUnet1D(10, global_cond_dim=2 * 137)`.
    assert millions(policy.extractor) == pytest.approx(2 * 11.197088, abs=1e-6)
    assert millions(policy.decoder) == pytest.approx(255.612042, abs=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_the_transformer_variant_changes_network_and_optimiser(name):
    cnn, transformer = recipe_of(name), recipe_of(f"{name}_transformer")
    assert (cnn.benchmark, cnn.data, cnn.eval) == (transformer.benchmark, transformer.data, transformer.eval)
    decoder, (stage,) = transformer.part("policy.decoder"), transformer.train
    assert decoder.type == "transformer-diffusion" and decoder.text == cnn.part("policy.decoder").text
    assert (decoder.horizon, decoder.width, decoder.layers, decoder.heads, decoder.condition_layers) == (
        16,
        256,
        8,
        4,
        0,
    )
    assert (decoder.dropout_embedding, decoder.dropout_attention) == (0.0, 0.3)
    assert (stage.optimizer.betas, stage.optimizer.weight_decay, stage.schedule.warmup_steps) == (
        (0.9, 0.95),
        1e-3,
        1000,
    )
    assert stage.steps == cnn.train[0].steps
    policy = built(transformer)
    encoders = next(iter(policy.parameter_groups()))
    assert encoders["weight_decay"] == 1e-6 and len(encoders["params"]) == len(list(policy.extractor.parameters()))
    # The official module with two frames of 66 numbers and 10 actions has 8,981,002 weights.
    network, layout = policy.decoder.network, policy.extractor.layout
    actions = transformer.benchmark.spaces().actions.dim
    token = layout.dim + (0 if decoder.text is None else decoder.text.pooled_dim)
    counted = sum(parameter.numel() for parameter in network.parameters())
    assert counted == 8_981_002 + 256 * (token - 66) + 513 * (actions - 10)


def test_the_clip_variant_reads_images_with_clip_alone():
    resnet, clip = recipe_of("robocasa"), recipe_of("robocasa_clip")
    assert (resnet.benchmark, resnet.data, resnet.train) == (clip.benchmark, clip.data, clip.train)
    assert resnet.part("policy.decoder") == clip.part("policy.decoder")
    extractor = clip.part("policy.extractor")
    assert (extractor.learning_rate, extractor.scaling, extractor.resize) == (0.1, "imagenet", (224, 224))
    encoders = built(clip).extractor.encoders
    assert len(encoders) == 3 and all(millions(one) == pytest.approx(85.8, abs=0.1) for one in encoders)


def test_figure_four_trains_on_half_of_the_tasks():
    ablation, (every, half), misfits = load_ablation(RECIPES / "ablations" / "diffusion_policy_figure4.yaml")
    other = load_ablation(RECIPES / "ablations" / "video_policy_figure4.yaml").variants[1]
    assert not misfits and "Liang" in ablation.source
    assert (every.row.published.value, half.row.published.value) == (0.41, 0.21)
    assert half.recipe.data == other.recipe.data, "the same half as the video model's decoder"
    assert every.recipe.benchmark == half.recipe.benchmark and every.recipe.policy == half.recipe.policy
    counted = [one.train[0].batch_size * one.train[0].devices for one in (every.recipe, half.recipe)]
    assert counted == [768, 2 * 768]


def test_figure_six_lengthens_the_history_alone():
    ablation, variants, misfits = load_ablation(RECIPES / "ablations" / "diffusion_policy_figure6_history.yaml")
    assert not misfits and "Li et al., 2025" in ablation.source
    seen = [variant.recipe.policy.window().observed for variant in variants]
    assert seen == [tuple(range(1 - frames, 1)) for frames in (1, 2, 4, 8, 16)]
    assert {variant.recipe.policy.window().horizon for variant in variants} == {16}
    sizes = [millions(built(variant.recipe)) for variant in (variants[0], variants[1], variants[-1])]
    assert sizes[1] == pytest.approx(262.71, abs=0.005)
    assert sizes[2] - sizes[1] == pytest.approx(14 * (sizes[1] - sizes[0]), abs=1e-6)
