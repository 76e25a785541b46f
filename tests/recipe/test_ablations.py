"""Ablation files: what their rows mean, on the paper's recipe and on a small one, and what their authors are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from videopolicy import RecipeError
from videopolicy.recipes.ablation import load_ablation
from videopolicy.recipes.recipe import load_recipe
from videopolicy.training.stages import build_learner

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes" / "ablations"
SMALL = ROOT / "recipes" / "video_policy_metaworld_small.yaml"
BASES = pytest.mark.parametrize("base", [None, SMALL], ids=["paper", "small"])


def rows(name: str, base: Path | None):
    ablation, variants, _ = load_ablation(FOLDER / f"{name}.yaml", base)
    assert "Liang" in ablation.source
    names = [variant.recipe.name for variant in variants]
    assert len(set(names)) == len(names)
    return {variant.row.name: variant for variant in variants}


def stages(variant) -> list[str]:
    return [stage.name for stage in variant.recipe.train]


@BASES
def test_table_three_varies_what_the_video_model_learns_from(base):
    table = rows("video_policy_table3", base)
    assert list(table) == ["Joint", "Joint with stop-gradient", "2-Stage", "No Video Tuning"]
    extractors = {name: variant.recipe.part("policy.extractor") for name, variant in table.items()}
    assert {name: stages(variant) for name, variant in table.items()} == {
        "Joint": ["action"],
        "Joint with stop-gradient": ["action"],
        "2-Stage": ["video", "action"],
        "No Video Tuning": ["action"],
    }
    assert {name: extractor.frozen for name, extractor in extractors.items()} == {
        "Joint": False,
        "Joint with stop-gradient": False,
        "2-Stage": True,
        "No Video Tuning": True,
    }
    assert [name for name, extractor in extractors.items() if extractor.stop_gradient] == ["Joint with stop-gradient"]
    published = {name: variant.row.published.value for name, variant in table.items() if variant.row.published}
    assert published == {"Joint": 0.57, "2-Stage": 0.63, "No Video Tuning": 0.09}


@BASES
def test_figure_three_shortens_the_video_and_not_the_actions(base):
    table = rows("video_policy_figure3", base)
    windows = [variant.recipe.policy.window() for variant in table.values()]
    assert len({window.horizon for window in windows}) == 1
    reach = [max(window.future, default=0) for window in windows]
    assert reach[0] > reach[1] > reach[2] == 0
    assert [variant.row.published.value for variant in table.values()] == [0.67, 0.55, 0.30]
    if base is None:
        assert windows[0].horizon == 32 and reach[:2] == [28, 14]


@BASES
def test_figure_four_hides_the_actions_of_half_of_the_tasks(base):
    every, half = rows("video_policy_figure4", base).values()
    assert every.recipe.data.actionless_tasks == () and half.recipe.data.actionless_tasks == 0.5
    assert stages(every) == stages(half) == ["video", "action"]
    assert every.recipe.benchmark == half.recipe.benchmark


def test_the_named_guess_of_figure_four_is_half_of_the_tasks():
    text = (FOLDER / "video_policy_figure4.yaml").read_text(encoding="utf-8")
    guess = text.split("'[")[1].split("]'")[0].replace("#", "").replace("\n", "")
    recipe = load_recipe(ROOT / "recipes" / "video_policy_robocasa.yaml", [f"data.actionless_tasks=[{guess}]"])
    silent, known = set(recipe.data.actionless_tasks), {task.name for task in recipe.benchmark.tasks()}
    assert len(silent) == 12 and silent < known


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("video_policy_*.yaml")))
def test_every_row_builds(name):
    for variant in rows(name, None).values():
        with torch.device("meta"):
            policy = build_learner(variant.recipe, "policy", 0)
        trained = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
        tuned = any(name.startswith("extractor.backbone.unet") for name in trained)
        assert tuned == (not variant.recipe.part("policy.extractor").frozen), variant.row.name
        assert any(name.startswith("decoder.") for name in trained)


BASE = (ROOT / "tests" / "recipe" / "test_recipe_errors.py").read_text(encoding="utf-8")
BASE = BASE.split('RECIPE = """\\\n')[1].split('"""')[0]


@pytest.fixture
def write(tmp_path: Path):
    (tmp_path / "parts.py").write_text(Path(__file__).with_name("parts.py").read_text(encoding="utf-8"))
    (tmp_path / "base.yaml").write_text(BASE, encoding="utf-8")

    def write(text: str) -> Path:
        path = tmp_path / "table.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


TABLE = """\
base: base.yaml
source: Somebody (2025), Table 1
rows:
- {name: All of it, published: {value: 0.5, episodes: 100}}
- name: no video
  overrides: [train.video=null, policy.decoder.horizon=6]
"""


def test_rows_change_the_base_and_nothing_else(write):
    ablation, (first, second), _ = load_ablation(write(TABLE))
    assert ablation.metric == "success" and first.row.published.episodes == 100
    assert (first.recipe.name, second.recipe.name) == ("table-all-of-it", "table-no-video")
    assert [stage.name for stage in first.recipe.train] == ["video", "act"]
    assert [stage.name for stage in second.recipe.train] == ["act"]
    assert second.recipe.policy.window().horizon == 6
    _, variants, _ = load_ablation(write(TABLE), overrides=["seed=7", "eval.episodes=3"])
    assert {(v.recipe.seed, v.recipe.eval.episodes) for v in variants} == {(7, 3)}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("horizon=6", "horizn=6", "row 'no video': "),
        ("train.video=null", "train.vidio=null", "has no item 'vidio'. Did you mean 'video'?"),
        ("no video", "all-of-it", "make the same run folder: 'All of it', 'all-of-it'"),
        ("overrides", "override", "table.yaml:6: rows.1.override: Extra inputs"),
        ("value: 0.5", "value: many", "rows.0.published.value"),
        ("source: Somebody (2025), Table 1\n", "", "source: Field required"),
        ("base: base.yaml", "base: bass.yaml", "base.yaml?"),
    ],
)
def test_mistakes_are_told_with_the_row(write, old, new, told):
    assert old in TABLE
    with pytest.raises(RecipeError) as caught:
        load_ablation(write(TABLE.replace(old, new, 1)))
    assert told in str(caught.value)


def test_an_error_behind_a_stage_taken_out_names_its_own_line(write):
    path = write(TABLE)
    base = path.with_name("base.yaml")
    base.write_text(BASE.replace("name: act, steps: 5", "name: act, steps: many"), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(base, ["train.video=null"])
    assert f"{base}:18: train.0.steps" in caught.value.message


def test_the_command_line_checks_every_row(write):
    def check(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "videopolicy", "check", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    path = write(TABLE)
    done = check(path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "  All of it: video (10 steps), act (5 steps); success 0.5 published",
        "  no video: act (5 steps)",
    ]
    small = path.with_name("small.yaml")
    small.write_text("extends: base.yaml\nseed: 3\n", encoding="utf-8")
    other = check(path, f"base={small}", "train.act.steps=2")
    assert other.returncode == 0 and "act (2 steps)" in other.stdout and "published" not in other.stdout
    wrong = check(path, "policy.decoder.widht=3")
    assert wrong.returncode == 2 and "row 'All of it'" in wrong.stderr and "Traceback" not in wrong.stderr
