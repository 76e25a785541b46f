"""Video Policy's recipes say what the paper's tables and its code say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from videopolicy.recipes.recipe import load_recipe
from videopolicy.training.stages import build_learner

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_the_robocasa_policy_has_the_official_sizes():
    recipe = load_recipe(RECIPES / "video_policy_robocasa.yaml")
    with torch.device("meta"):
        policy = build_learner(recipe, "policy", 0)

    def size(path: str) -> int:
        return sum(parameter.numel() for parameter in policy.get_submodule(path).parameters())

    assert size("extractor.backbone.unet") == 1_524_623_082
    assert size("extractor.adapter") == 205_812_616
    assert size("decoder.network") == 161_359_111
    backbone = policy.extractor.backbone
    assert backbone.latent_shape == (25, 4, 32, 32)  # a pad frame and three views of eight
    assert backbone.cameras[0] == "robot0_eye_in_hand"  # whose present frame is the pad frame
    groups = [m.eps for name, m in backbone.unet.named_modules() if "norm" in name and "resnets" in name]
    assert groups and set(groups) == {1e-5}


def test_the_libero_clip_has_twenty_five_frames_too():
    recipe = load_recipe(RECIPES / "video_policy_libero10.yaml")
    backbone = recipe.part("policy.extractor.backbone")
    assert 1 + backbone.frames * len(recipe.benchmark.spaces().cameras) == 25
    assert [stage.steps for stage in recipe.train] == [170_000, 140_000]
    assert max(recipe.policy.window().future) >= recipe.policy.window().horizon  # the video covers all actions
    assert {task.max_steps for task in recipe.benchmark.tasks()} == {500}


@pytest.mark.parametrize("name", ["video_policy_robocasa", "video_policy_robocasa_300", "video_policy_libero10"])
def test_training_is_that_of_table_five_and_the_code(name):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    video, action = recipe.train
    assert (video.target, action.target) == ("policy.extractor.backbone", "policy")
    for stage, rate in ((video, 1e-5), (action, 5e-5)):
        assert stage.optimizer.learning_rate == rate and stage.optimizer.weight_decay == 0
        assert stage.batch_size * stage.devices == 32 and stage.precision == "16-mixed"
        assert stage.schedule.type == "constant" and stage.gradient_clip is None and stage.ema_decay is None
    extractor, backbone = recipe.part("policy.extractor"), recipe.part("policy.extractor.backbone")
    assert extractor.frozen and extractor.guidance == 2.0
    assert (backbone.guidance_scale, backbone.video_guidance) == (2.0, "constant"), "predicted videos are guided alike"
    assert (backbone.training.fps, backbone.training.motion_bucket, backbone.training.noise_augmentation) == (
        6,
        100,
        0.02,
    )
    assert backbone.training == backbone.reading == backbone.sampling
    assert (backbone.text.dim, backbone.text.length, backbone.cross_attention_dim) == (1024, 77, 1024)
    assert recipe.normalization.actions == "minmax"
    assert (recipe.policy.window().horizon, recipe.eval.execute, recipe.eval.episodes) == (32, 16, 50)


def test_the_defects_of_the_published_code_can_be_had_by_name():
    path = RECIPES / "video_policy_robocasa.yaml"
    ours = load_recipe(path)
    assert ours.data.skip == {"TurnOnStove": ("demo_33", "demo_37")}
    assert (ours.data.action_padding, ours.benchmark.horizon) == ("mask", "task")
    theirs = load_recipe(
        path,
        [
            "data.skip={TurnOffMicrowave: [demo_33, demo_37]}",
            "data.action_padding=zero",
            "benchmark.horizon=video-policy",
        ],
    )
    assert list(theirs.data.skip) == ["TurnOffMicrowave"]
    assert {task.max_steps for task in theirs.benchmark.tasks()} == {992}
    comments = path.read_text(encoding="utf-8")
    for override in ("data.skip=", "data.action_padding=zero", "benchmark.horizon=video-policy"):
        assert override in comments


def test_three_hundred_demonstrations_are_a_subset_of_the_generated_ones():
    recipe = load_recipe(RECIPES / "video_policy_robocasa_300.yaml")
    assert recipe.data.filter_key == "300_demos" and "/mg/" in recipe.data.files
    assert not any(recipe.data.skip.values())
    assert recipe.policy == load_recipe(RECIPES / "video_policy_robocasa.yaml").policy
