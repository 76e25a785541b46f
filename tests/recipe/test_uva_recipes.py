"""Unified Video Action Model's recipes say what its code and tables say; its ablations change what they name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from videopolicy.recipes.ablation import load_ablation
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.storage.identity import collected_by, digest
from videopolicy.storage.store import Store
from videopolicy.training.planning import plan
from videopolicy.training.stages import build_learner

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
NAMES = ("uva_libero10", "uva_robocasa", "uva_pusht", "uva_pusht_multitask", "uva_toolhang")
SMALL = RECIPES / "uva_metaworld_small.yaml"
WRIST = (
    "benchmark.cameras=[sideview, robot0_eye_in_hand]",
    "data.cameras.robot0_eye_in_hand=robot0_eye_in_hand_image",
    "policy.joint.proprioception=true",
)
DATA: Any = SimpleNamespace(fingerprint=lambda actions=True: f"data, actions: {actions}", files=lambda: ())


def recipe_of(name: str, *overrides: str) -> Recipe:
    return load_recipe(RECIPES / f"{name}.yaml", list(overrides))


@pytest.mark.parametrize("name", NAMES)
def test_every_literal_of_the_code_is_written_down(name):
    recipe = recipe_of(name)
    joint, action = recipe.policy.joint, recipe.policy.action
    window = recipe.policy.window()
    history = (0,) if name == "uva_robocasa" else (-12, -8, -4, 0)  # 3, 7 .. 31 of 32 frames
    assert (window.observed, window.future) == (history, (4, 8, 12, 16))
    assert (window.horizon, window.past_actions, recipe.eval.execute) == (16, 0, 8)
    assert (joint.image_size, joint.grid, joint.frames * joint.grid[0] * joint.grid[1]) == ((256, 256), (16, 16), 1024)
    shape = joint.transformer
    assert (shape.width, shape.depth, shape.heads, shape.mlp_ratio) == (768, 12, 12, 4)
    assert (shape.attention_dropout, shape.dropout) == (0.1, 0.1)
    assert (joint.latent.latent_channels, joint.latent.scaling_factor, joint.latent.posterior) == (16, 0.2325, "sample")
    for head in (joint.video, action.head):
        assert (head.width, head.depth, head.training_steps, head.sampling_steps) == (1024, 6, 1000, 100)
        assert (head.temperature, head.noise_samples) == (0.95, 1)
    assert (action.aggregation, joint.mask_ratio_min, joint.video_steps) == ("conv_fc", 0.7, 1)
    assert set(recipe.policy.modes) == {"video", "forward", "policy", "inverse", "full"}
    assert (recipe.policy.modes_per, recipe.policy.guidance) == ("batch", 1)
    if joint.text is not None:
        assert (joint.text.weights, joint.text.max_length) == ("openai/clip-vit-base-patch32", 30)
        assert (joint.text_tokens, joint.text_drop) == (64, 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_training_is_the_codes_in_two_stages(name):
    recipe = recipe_of(name)
    video, joint = recipe.train
    assert (video.name, video.target, joint.name, joint.target) == ("video", "policy.joint", "joint", "policy")
    for stage in recipe.train:
        assert (stage.optimizer.learning_rate, stage.optimizer.betas) == (1e-4, (0.9, 0.95))
        assert (stage.optimizer.weight_decay, stage.batch_size, stage.devices) == (0.02, 32, 8)
        assert (stage.schedule.type, stage.schedule.warmup_steps, stage.schedule.final) == ("cosine", 1000, 0)
        assert (stage.ema_decay, stage.ema_warmup, stage.gradient_clip) == (0.9999, 0.75, None)
        assert (stage.precision, stage.accumulate) == ("16-mixed", 1)
    assert video.steps == joint.steps
    assert f"{video.steps:,}" in (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")  # the arithmetic


@pytest.mark.parametrize(
    ("name", "episodes", "held_out", "steps"),
    [
        ("uva_pusht", 206, 4, 25_650),
        ("uva_pusht_multitask", 247, 5, 247 * 25_650 / 206),
        ("uva_libero10", 500, 10, 138_090),
        ("uva_toolhang", 200, 4, 96_000),
    ],
)
def test_steps_follow_from_the_data_and_3050_epochs(name, episodes, held_out, steps):
    windows = (episodes - held_out) * (steps / episodes - 23)
    epoch = -(-(windows // 32 + 1) // 8)
    assert recipe_of(name).train[0].steps == 3050 * epoch


def test_actions_and_state_are_scaled_as_in_the_code():
    for name in ("uva_libero10", "uva_toolhang"):
        recipe = recipe_of(name)
        scaled = set(recipe.benchmark.spaces().actions.names) - set(recipe.normalization.unscaled)
        assert recipe.normalization.actions == "minmax" and scaled == {"x", "y", "z"}
        assert recipe.data.rotation == "axis-angle-to-6d"
    state = recipe.benchmark.spaces().state.names
    kept = [name for name in state if name in recipe.normalization.unscaled]
    assert recipe.normalization.state == "minmax" and kept == [f"robot0_eef_quat_{i}" for i in range(4)]
    pusht = recipe_of("uva_pusht").normalization
    assert (pusht.actions, pusht.state, pusht.unscaled) == ("minmax", "minmax", ())


def test_views_and_sentences_are_the_codes():
    for name in ("uva_pusht", "uva_pusht_multitask", "uva_toolhang"):
        assert recipe_of(name).policy.joint.text is None
    views = {name: [camera.name for camera in recipe_of(name).benchmark.spaces().cameras] for name in NAMES}
    assert [len(views[name]) for name in NAMES] == [1, 3, 1, 1, 1]
    assert views["uva_libero10"] == ["agentview"] and views["uva_toolhang"] == ["sideview"]
    libero = recipe_of("uva_libero10")
    assert libero.benchmark.preset == "uva" and {task.max_steps for task in libero.benchmark.tasks()} == {500}
    assert all(" SCENE" in task.instruction for task in libero.benchmark.tasks())
    assert libero.data.instructions == "file-name"
    own = recipe_of("uva_libero10", "benchmark.sentences=libero", "data.instructions={}")
    assert not any(" SCENE" in task.instruction for task in own.benchmark.tasks())
    assert recipe_of("uva_robocasa").policy.joint.inverse_hides == "all"


def test_the_baseline_on_robocasa_is_that_of_the_papers_appendix():
    """Liang et al. 2025, A.2: autoencoder and MAR to start with, three conditioning images, one clip of all views."""
    recipe = recipe_of("uva_robocasa")
    joint, spaces = recipe.policy.joint, recipe.benchmark.spaces()
    assert (joint.latent.weights, joint.initial_weights) == ("weights/kl-f16", "weights/mar-base")
    assert len(spaces.cameras) * len(joint.history) == 3 and joint.image_size == (256, 256)
    assert (joint.views, joint.predicted_views) == ("concatenated", None)
    assert dict(joint.layout(spaces).axes) == {"frames": 12, "height": 16, "width": 16}
    with torch.device("meta"):
        three, one = (build_learner(recipe_of(name), "policy", 0).joint for name in ("uva_robocasa", "uva_libero10"))
    shapes = {name: value.shape for name, value in one.state_dict().items()}
    assert three.state_dict().keys() == shapes.keys(), "MAR's weights go where they go in a model of one view"
    other = {name for name, value in three.state_dict().items() if value.shape != shapes[name]}
    assert other == {
        *(f"transformer.{which}frame_positions" for which in ("", "decoder_", "output_")),
        "transformer.action_in.weight",  # 7 actions a step
    }
    fused = recipe_of("uva_robocasa", "policy.joint.views=fused", "policy.joint.history_stride=4").policy.joint
    assert fused.window().observed == (-12, -8, -4, 0) and dict(fused.layout(spaces).axes)["frames"] == 4


def test_goals_of_pusht_multitask_are_seeded_and_the_recipe_says_so():
    one, many = recipe_of("uva_pusht"), recipe_of("uva_pusht_multitask")
    assert (one.benchmark.goals, many.benchmark.goals) == ("fixed", "random")
    assert "seed" in many.benchmark.protocol()["goals"]
    assert one.policy == many.policy and one.normalization == many.normalization
    text = (RECIPES / "uva_pusht_multitask.yaml").read_text(encoding="utf-8")
    assert "nobody seeds" in text and "not comparable" in text


@pytest.mark.parametrize(
    ("name", "overrides", "tensors", "millions"),
    [
        ("uva_pusht", (), 444, 261.08),
        ("uva_libero10", (), 449, 261.60),
        # Without and with the head for the robot's state, which is as large as that for actions.
        ("uva_toolhang", WRIST, 583 - 72, 350.91 - 52.25),
        ("uva_toolhang", (*WRIST, "policy.joint.predict_proprioception={}"), 583, 350.91),
    ],
)
def test_the_policy_has_the_official_sizes(name, overrides, tensors, millions):
    with torch.device("meta"):
        policy = build_learner(recipe_of(name, *overrides), "policy", 0)
    parts = [policy.joint.transformer, policy.joint.video_heads, policy.action]
    if policy.joint.state_prediction is not None:
        parts.append(policy.joint.state_prediction)
    assert sum(len(part.state_dict()) for part in parts) == tensors
    counted = sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert counted / 1e6 == pytest.approx(millions, abs=0.006)
    assert sum(parameter.numel() for parameter in policy.joint.latent.parameters()) == 66_456_019


def test_the_robots_state_is_read_and_predicted_at_every_step():
    window = recipe_of("uva_toolhang", *WRIST, "policy.joint.predict_proprioception={}").policy.window()
    assert window.observed == tuple(range(-15, 1)) and window.future_states == tuple(range(1, 17))
    drawn = recipe_of("uva_toolhang", *WRIST, "policy.joint.random_history=true").policy.joint
    assert drawn.state_offsets == (-12, -8, -4, 0)


def test_a_video_model_that_is_told_actions_depends_on_how_they_are_scaled(tmp_path):
    def video(*overrides: str) -> str:
        return plan(load_recipe(SMALL, overrides), DATA, Store(tmp_path))[0].key

    scaled = "normalization.actions=standard"
    assert video() == video(scaled)
    assert video("policy.joint.past_actions=4") != video("policy.joint.past_actions=4", scaled)


BASES = pytest.mark.parametrize("base", [None, SMALL], ids=["paper", "small"])


def rows(name: str, base: Path | None = None):
    ablation, variants, _ = load_ablation(RECIPES / "ablations" / f"{name}.yaml", base)
    assert "Li et al., 2025" in ablation.source
    return {variant.row.name: variant for variant in variants}


def published(table) -> dict[str, float | None]:
    return {name: variant.row.published.value if variant.row.published else None for name, variant in table.items()}


@BASES
def test_uva_action_predicts_no_video(base):
    table = rows("uva_table1_uva_action", base)
    assert published(table) == {"UVA-action": 0.45, "UVA": 0.98}
    without, whole = (table[name].recipe for name in ("UVA-action", "UVA"))
    assert [stage.name for stage in without.train] == ["joint"] and len(whole.train) == 2
    assert without.policy.joint.video is None and without.policy.modes == ("policy",)
    assert without.policy.action == whole.policy.action and whole.policy.joint.video is not None
    with torch.device("meta"):
        policy = build_learner(without, "policy", 0)
    assert not any(name.startswith("joint.video_heads") for name in policy.state_dict())


@BASES
def test_histories_differ_in_length_alone(base):
    table = rows("uva_figure6_history", base)
    assert set(published(table).values()) == {None}  # a picture
    spans = [1 - variant.recipe.policy.window().observed[0] for variant in table.values()]
    assert spans == [1, 4, 7, 13, 25] or base is not None
    assert spans == sorted(set(spans))
    assert len({variant.recipe.policy.window().future for variant in table.values()}) == 1


@BASES
def test_videos_are_predicted_in_one_step_or_eight(base):
    table = rows("uva_table4_video_steps", base)
    assert published(table) == {"1 step": 89.36, "8 steps": 51.10}
    assert [variant.recipe.policy.joint.video_steps for variant in table.values()] == [1, 8]


@pytest.mark.parametrize("base", [None, RECIPES / "uva_pusht_small.yaml"], ids=["paper", "small"])
def test_disturbances_change_pictures_of_the_evaluation_and_no_training(tmp_path, base):
    table = rows("uva_table3_disturbances", base)
    assert published(table) == {"Normal": 0.98, "BgColor": 0.35, "BgObject": 0.31, "GoalColor": 0.64}
    keys = {tuple(p.key for p in plan(variant.recipe, DATA, Store(tmp_path))) for variant in table.values()}
    assert len(keys) == 1
    protocols = [variant.recipe.benchmark.protocol() for variant in table.values()]
    assert all(one != other for one in protocols for other in protocols if one is not other)
    demonstrated = {digest(collected_by(variant.recipe.benchmark.demonstrating())) for variant in table.values()}
    assert len(demonstrated) == 1
