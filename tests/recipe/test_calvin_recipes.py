"""CALVIN's recipes and Video Prediction Policy's tables say what paper and code say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import vpolicy

from videopolicy.recipes.ablation import load_ablation
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage.identity import collected_by
from videopolicy.training.stages import build_learner

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TABLES = sorted((RECIPES / "ablations").glob("vpp_table*.yaml"))
WINDOWS = 696_473
"""Of ABC with 21 steps ahead, as the authors count them (issue 5 of their repository)."""
OURS = ("VPP", "VDM", "Stable-VAE", "VC-1", "Voltron", "Layer", "Ablation")
"""How methods begin that are VPP or a part of it: Table 1 has other people's methods too."""
MISFITS = {
    "vpp_table1_data": {"10 % of ABC"},
    "vpp_table4": {
        "w/o Internet data",
        "w/o Internet data w/o SVD Pretrain",
        "w/o Feature Agg.",
    },
    "vpp_table10_layers": {"Layer-9", "Layer-12"},
    "vpp_table12": {"Single-view"},
}
"""Rows that the quickstart has nothing for: its data have no share, its network has two levels, it sees one camera."""


def sizes(policy: torch.nn.Module, *paths: str) -> list[int]:
    return [sum(weights.numel() for weights in policy.get_submodule(path).parameters()) for path in paths]


def test_the_policy_has_the_published_codes_sizes():
    recipe = load_recipe(RECIPES / "vpp_calvin.yaml")
    extractor = recipe.part("policy.extractor")
    layout = extractor.layout(recipe.benchmark.spaces())
    assert (layout.axes, layout.dim, extractor.channels) == ((("frames", 16), ("latents", 14)), 384, 2560)
    with torch.device("meta"):
        policy = build_learner(recipe, "policy", 0)
    unet, former = sizes(policy, "extractor.backbone.unet", "extractor.former")
    assert unet == 1_524_623_082
    assert round(former / 1e6, 2) == 17.71
    backbone = extractor.backbone
    assert (backbone.frames, backbone.stride, backbone.position_encode) == (16, 2, False)
    levels = recipe.part("policy.decoder").sampling_levels
    assert (levels.steps, levels.lowest, levels.highest, levels.schedule) == (10, 1.0, 80, "exponential")


def test_training_is_twelve_epochs_of_table_thirteen():
    (stage,) = load_recipe(RECIPES / "vpp_calvin.yaml").train
    assert stage.batch_size * stage.devices == 76
    assert abs(stage.steps - 12 * WINDOWS / 76) < 10
    assert (stage.optimizer.learning_rate, stage.optimizer.betas, stage.optimizer.weight_decay) == (
        1e-4,
        (0.9, 0.9),
        0.05,
    )
    assert stage.schedule.type == "constant"


def test_from_stable_video_diffusion_only_the_video_model_differs():
    published, own = (load_recipe(RECIPES / f"{name}.yaml") for name in ("vpp_calvin", "vpp_calvin_from_svd"))
    video, policy = own.train
    assert policy == published.train[0] and video.target == "policy.extractor.backbone"
    assert (video.optimizer.learning_rate, video.optimizer.weight_decay, video.gradient_clip) == (5e-6, 0, 1.0)
    views = len(own.benchmark.spaces().cameras)
    assert video.batch_size * views == 6  # clips on every device, as in the code
    changed = {"weights": "stabilityai/stable-video-diffusion-img2vid"}
    assert own.part("policy.extractor.backbone") == published.part("policy.extractor.backbone").model_copy(
        update=changed
    )
    assert (own.benchmark, own.data, own.eval) == (published.benchmark, published.data, published.eval)


def test_the_baseline_sees_what_the_policy_sees():
    ours, baseline = (load_recipe(RECIPES / f"{name}.yaml") for name in ("vpp_calvin", "diffusion_policy_calvin"))
    assert (ours.benchmark, ours.data, ours.eval.episodes) == (
        baseline.benchmark,
        baseline.data,
        baseline.eval.episodes,
    )
    (stage,) = baseline.train
    assert abs(stage.steps * stage.batch_size - 12 * WINDOWS) < 64 * 10
    with torch.device("meta"):
        policy = build_learner(baseline, "policy", 0)
    (first, second) = sizes(policy, "extractor.encoders.0", "extractor.encoders.1")
    assert first == second > 11_000_000  # ResNet-18 for each camera
    assert policy.window.horizon == 16 and policy.window.observed == (-1, 0)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_tables_have_the_numbers_of_the_benchmark(path):
    ablation, variants, misfits = load_ablation(path)
    assert not misfits and ablation.metric == "average chain length"
    printed = [
        number.value
        for number in variants[0].recipe.benchmark.published()
        if number.metric == ablation.metric
        and number.source.split(", data efficiency")[0] == ablation.source
        and number.method.startswith(OURS)
    ]
    assert sorted(variant.row.published.value for variant in variants if variant.row.published) == sorted(printed)


@pytest.mark.slow
def test_every_row_builds():
    variants = [variant for path in TABLES for variant in load_ablation(path).variants]
    different = {variant.recipe.policy.model_dump_json(): variant for variant in variants}
    assert len(variants) == 22 and len(different) == 15
    for variant in different.values():
        with torch.device("meta"):
            policy = build_learner(variant.recipe, "policy", 0)
        trained = {name.split(".")[0] for name, weights in policy.named_parameters() if weights.requires_grad}
        assert trained == {"extractor", "decoder"}, variant.row.name
        inside = getattr(policy.extractor, "backbone", None) or policy.extractor.extractor
        assert not any(weights.requires_grad for weights in inside.parameters())


def test_rows_change_what_their_names_say():
    def part(table: str, row: str, where: str):
        variants = {one.row.name: one.recipe for one in load_ablation(RECIPES / "ablations" / f"{table}.yaml").variants}
        return variants[row].part(where) if where else variants[row]

    extractor, backbone = "policy.extractor", "policy.extractor.backbone"
    assert part("vpp_table4", "w/o Calvin video", backbone).position_encode
    assert part("vpp_table4", "w/o Internet data w/o SVD Pretrain", backbone).unet_start == "random"
    assert [stage.name for stage in part("vpp_table4", "w/o Internet data", "").train] == ["video", "policy"]
    assert part("vpp_table4", "w/o Video Former", extractor).former.type == "linear"
    widths = [part("vpp_table10_layers", f"Layer-{3 * n}", extractor).channels for n in (1, 2, 3, 4)]
    assert widths == [1280, 1280, 640, 320]
    assert part("vpp_table12", "Ablation.1 (no attention over time)", extractor).former.type == "video-former-2d"
    assert part("vpp_table12", "Ablation.2 (two denoising steps)", extractor).denoising_steps == 2
    single = part("vpp_table12", "Single-view", "")
    assert single.benchmark.cameras == single.data.cameras == ("rgb_static",)
    assert part("vpp_table1_data", "10 % of ABC", "").data.share == 0.1


def test_other_encoders_stand_in_the_place_of_the_video_model():
    table = {one.row.name: one.recipe for one in load_ablation(RECIPES / "ablations" / "vpp_table3.yaml").variants}
    assert [name for name, recipe in table.items() if recipe.part("policy.extractor").type == "one-step"] == ["VDM"]
    inner = {}
    for name, recipe in table.items():
        layout = recipe.part("policy.extractor").layout(recipe.benchmark.spaces())
        assert layout.dim == 384 and layout.axes[-1] == ("latents", 14 if name == "VDM" else 256)
        assert recipe.part("policy.decoder") == table["VDM"].part("policy.decoder")
        assert (recipe.train, recipe.eval) == (table["VDM"].train, table["VDM"].eval)
        if name != "VDM":
            inner[name] = recipe.part("policy.extractor.extractor").layout(recipe.benchmark.spaces())
    # Tokens of two cameras: latents of 256 pixels, patches of 224 pixels, patches and words, larger patches.
    assert {name: (layout.tokens, layout.dim) for name, layout in inner.items()} == {
        "Stable-VAE": (2 * 32 * 32, 4),
        "VC-1": (2 * 14 * 14, 768),
        "Voltron": (2 * (14 * 14 + 20), 384),
        "DINOv2": (2 * 16 * 16, 768),
    }


@pytest.mark.parametrize("base", [None, "quickstart"], ids=["published", "quickstart"])
@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_tables_plan_without_data_and_weights(path: Path, base: str | None, tmp_path: Path):
    moved = [] if base is None else ["--base", str(RECIPES / f"{base}.yaml")]
    done = vpolicy(tmp_path, "ablate", str(path), *moved, "--dry-run", COLUMNS="300", VPOLICY_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (_, variants, misfits) = load_ablation(path, RECIPES / f"{base}.yaml" if base else None)
    assert all(variant.row.name in done.stdout for variant in variants)
    assert set(misfits) == (MISFITS.get(path.stem, set()) if base else set())


def test_tables_go_onto_another_recipe_of_the_benchmark():
    for path in TABLES:
        _, variants, misfits = load_ablation(path, RECIPES / "vpp_calvin_from_svd.yaml")
        assert variants and all("a recipe of its own" in why for why in misfits.values()), misfits


def test_tables_go_onto_the_quickstart_as_far_as_it_has_what_they_change():
    fitting = {path.stem: load_ablation(path, RECIPES / "quickstart.yaml") for path in TABLES}
    names = {table: [one.row.name for one in loaded.variants] for table, loaded in fitting.items()}
    assert names["vpp_table3"] == ["VDM", "Stable-VAE", "VC-1", "Voltron", "DINOv2"]
    assert names["vpp_table10_layers"] == ["Layer-3", "Layer-6", "VPP"]
    assert names["vpp_table12"] == ["VPP", "Ablation.1 (no attention over time)", "Ablation.2 (two denoising steps)"]
    assert "w/o Video Former" in names["vpp_table4"] and "w/o Feature Agg." in fitting["vpp_table4"].misfits


def test_the_small_policies_are_evaluated_on_single_tasks_and_on_chains_after_one_training():
    def rows(name: str):
        return [variant.recipe for variant in load_ablation(RECIPES / "ablations" / f"{name}.yaml")[1]]

    for tasks, chains in zip(rows("calvin_tables_small"), rows("calvin_chains_small"), strict=True):
        assert len(tasks.benchmark.tasks()) == 15 and tasks.eval.episodes == 20
        assert chains.eval.episodes == chains.benchmark.stored_states() == 18
        assert (tasks.policy, tasks.data, tasks.train) == (chains.policy, chains.data, chains.train)
        assert collected_by(tasks.benchmark.demonstrating()) == collected_by(chains.benchmark.demonstrating())
    on_the_same, on_others = rows("calvin_tables_small")
    assert on_the_same.benchmark.protocol()["trained_on"] == ["D"]
    assert on_others.benchmark.protocol()["trained_on"] == ["A", "B", "C"]
