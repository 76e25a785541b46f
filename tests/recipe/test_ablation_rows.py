"""Rows that name a recipe of their own, and values for all rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from videopolicy import RecipeError
from videopolicy.recipes.ablation import load_ablation

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def write(folder: Path, text: str) -> Path:
    path = folder / "rows.yaml"
    path.write_text(text.replace("RECIPES", str(RECIPES)), encoding="utf-8")
    return path


def test_rows_may_have_recipes_of_their_own_and_share_values(tmp_path: Path):
    path = write(
        tmp_path,
        """
base: RECIPES/quickstart.yaml
overrides: [eval.episodes=7, seed=3]
source: nobody
rows:
- name: first
- name: second
  base: RECIPES/uva_metaworld_small.yaml
  overrides: [seed=4]
""",
    )
    _, (first, second), _ = load_ablation(path, overrides=["eval.workers=1"])
    assert [one.recipe.name for one in (first, second)] == ["rows-first", "rows-second"]
    assert (first.recipe.policy.type, second.recipe.policy.type) == ("modular", "uva")
    assert [(one.recipe.eval.episodes, one.recipe.seed) for one in (first, second)] == [(7, 3), (7, 4)]
    assert {one.recipe.eval.workers for one in (first, second)} == {1}


def test_a_row_with_its_own_recipe_cannot_be_put_on_another_base(tmp_path: Path):
    path = write(tmp_path, "source: nobody\nrows: [{name: only, base: RECIPES/quickstart.yaml}]\n")
    with pytest.raises(RecipeError, match="row 'only': it has a recipe of its own") as caught:
        load_ablation(path, base=RECIPES / "uva_metaworld_small.yaml")
    assert "--base" in caught.value.hint


def test_rows_that_do_not_fit_another_base_are_left_out_and_told(tmp_path: Path):
    path = write(
        tmp_path,
        """\
base: RECIPES/vpp_calvin.yaml
source: nobody
rows:
- name: whole
- name: last layer
  overrides: ["policy.extractor.taps=[up3]"]
- name: own
  base: RECIPES/quickstart.yaml
""",
    )
    _, variants, misfits = load_ablation(path, base=RECIPES / "quickstart.yaml")
    assert [variant.recipe.name for variant in variants] == ["rows-quickstart-whole"]
    assert list(misfits) == ["last layer", "own"]
    assert "quickstart.yaml:" in misfits["last layer"] and "no tap up3; it has" in misfits["last layer"]
    assert misfits["own"].startswith("it has a recipe of its own")
    with pytest.raises(RecipeError, match="there is no such field"):  # a mistake of all rows is no misfit
        load_ablation(path, base=RECIPES / "quickstart.yaml", overrides=["eval.episods=3"])
    assert len(load_ablation(path).variants) == 3


def test_a_row_may_say_something_else_on_another_base(tmp_path: Path):
    path = write(
        tmp_path,
        """\
base: RECIPES/vpp_calvin.yaml
source: nobody
rows:
- name: last layer
  overrides: ["policy.extractor.taps=[up3]"]
  elsewhere: ["policy.extractor.taps=[up1]", train.video.steps=3]
""",
    )
    quickstart, own = RECIPES / "quickstart.yaml", RECIPES / "ablations" / ".." / "vpp_calvin.yaml"
    (other,) = load_ablation(path, base=quickstart, overrides=["eval.episodes=2"]).variants
    assert other.recipe.part("policy.extractor").taps == ("up1",)
    assert (other.recipe.train[0].steps, other.recipe.eval.episodes) == (3, 2)
    for base in (None, own):
        (variant,) = load_ablation(path, base=base).variants
        assert variant.recipe.part("policy.extractor").taps == ("up3",)


def test_a_row_without_any_recipe_is_refused(tmp_path: Path):
    path = write(tmp_path, "source: nobody\nrows: [{name: lost}, {name: own, base: RECIPES/quickstart.yaml}]\n")
    with pytest.raises(RecipeError, match="base is missing, which row 'lost' changes"):
        load_ablation(path)


def test_every_feature_stands_under_every_decoder():
    _, variants, _ = load_ablation(RECIPES / "ablations" / "features_x_decoders.yaml")
    cells = [tuple(variant.row.name.split(" x ")) for variant in variants]
    features, decoders = (list(dict.fromkeys(cell[side] for cell in cells)) for side in (0, 1))
    assert cells == [(feature, decoder) for feature in features for decoder in decoders]
    assert (len(features), len(decoders)) == (4, 3)
    learned_from = {variant.recipe.data.model_dump_json() for variant in variants if variant.recipe.data}
    assert len(learned_from) == 1
