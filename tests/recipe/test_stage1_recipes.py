"""Video Prediction Policy's first stage mixes what paper and code mix."""

from __future__ import annotations

from pathlib import Path

import pytest

from videopolicy.recipes.recipe import load_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TABLE_8 = {
    "something-something-v2": 0.30,
    "rt1": 0.15,
    "bridge": 0.15,
    "bc-z": 0.08,
    "taco-play": 0.01,
    "jaco-play": 0.01,
    "calvin-abc": 0.10,
    "metaworld": 0.05,
    "panda": 0.05,
    "xhand": 0.10,
}
CODE = {"something-something-v2": 0.4, "bridge": 0.2, "rt1": 0.2, "calvin-abc": 0.2}


@pytest.mark.parametrize(("name", "ratios"), [("vpp_stage1", TABLE_8), ("vpp_stage1_code", CODE)])
def test_the_mixture_is_that_of_its_source(name: str, ratios: dict[str, float]) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    stage, policy = recipe.train
    assert {part.name: part.ratio for part in stage.data} == ratios
    assert stage.batch_size * stage.devices == 48
    parts = {part.name: part for part in stage.data}
    calvin = parts["calvin-abc"]
    assert calvin.data is None and recipe.data.type == "calvin-npz"
    assert (calvin.window_stride, calvin.cameras) == (2, {"rgb_static": 0.75, "rgb_gripper": 0.25})
    for part in ("something-something-v2", "bridge", "rt1"):
        assert (parts[part].data.sampling, parts[part].data.longest) == ("whole-clip", 100)
    assert policy.data is None and policy == load_recipe(RECIPES / "vpp_calvin.yaml").train[-1]


def test_own_recordings_begin_at_every_second_frame() -> None:
    parts = {part.name: part for part in load_recipe(RECIPES / "vpp_stage1.yaml").train[0].data}
    for name in ("panda", "xhand"):
        assert (parts[name].data.sampling, parts[name].data.window_stride) == ("steps", 2)
    assert parts["xhand"].cameras == {"front": 0.75, "side": 0.25}
