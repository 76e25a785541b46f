"""Data that a stage has to itself are checked when the recipe is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import vpolicy
from toy_recipes import video

from videopolicy.recipes.recipe import load_recipe

A = "{name: a, ratio: 0.4, data: {type: vpp-videos, path: clips, cameras: {left: 0, right: 1}}}"
B = "{name: b, ratio: 0.6, cameras: {front: 0.75, wrist: 0.25}, stride: 3}"
STAGE = "name: video, target: policy.extractor.backbone, steps: 4, batch_size: 2"


def write(folder: Path, data: str, policy: str = "name: policy, steps: 4, batch_size: 2") -> Path:
    text = video((f"{STAGE}, data: {data}", policy), "episodes: 0")
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_of_parts_is_read_and_written(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, f"[{A}, {B}]"))
    first, second = recipe.train[0].data
    assert (first.name, first.ratio, first.data.type) == ("a", 0.4, "vpp-videos")
    assert first.data.cameras == {"left": 0, "right": 1}
    assert (second.data, second.stride, second.cameras) == (None, 3, {"front": 0.75, "wrist": 0.25})
    again = type(recipe).model_validate(recipe.model_dump(mode="json"), context={"registry": recipe.registry})
    assert again.train == recipe.train
    types = [component.type for component in recipe.components()]
    assert types.count("vpp-videos") == 1 and types.count("robomimic-hdf5") == 1


def test_a_component_alone_is_read_too(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "{type: vpp-videos, path: clips}"))
    assert recipe.train[0].data.type == "vpp-videos"


def test_check_says_how_data_are_mixed_and_which_are_missing(tmp_path: Path) -> None:
    write(tmp_path, f"[{A}, {B}]")
    done = vpolicy(tmp_path, "check", "r.yaml")
    assert done.returncode == 0, done.stderr
    assert "mixture    of video: a 0.4, b 0.6" in done.stdout
    assert "The dataset clips does not exist." in done.stdout


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (f"[{A}]", "train.0.data: the ratios of its parts add up to 0.4 (0.4), not to 1"),
        (f"[{A}, {B.replace('0.6', '0.7')}]", "the ratios of its parts add up to 1.1 (0.4 + 0.7), not to 1"),
        (f"[{A}, {B.replace('0.6', '-0.6')}]", "train.0.data.1.ratio: Input should be greater than 0"),
        ("[]", "train.0.data"),
        (f"[{A}, {B.replace('name: b', 'name: a')}]", "train.0.data.1.name: an earlier part is also named 'a'"),
        (f"[{A}, {B.replace('0.25', '0.5')}]", "train.0.data.1.cameras: how often cameras are shown adds up to 1.25"),
        (f"[{A.replace('data:', 'cameras: {lefd: 1}, data:')}, {B}]", "there is no camera 'lefd'. Did you mean"),
        (f"[{A.replace('ratio', 'ratios')}, {B}]", "train.0.data.0.ratios: there is no such field."),
        (f"[{A.replace('vpp-videos', 'vpp-video')}, {B}]", "vpp-videos"),
        (f"[{A}, {B.replace('stride: 3', 'data: {type: robomimic-hdf5}')}]", "own data are collected"),
        ("{type: robomimic-hdf5}", "train.0.data: only the recipe's own data are collected"),
        ("{path: clips}", "train.0.data"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, data: str, says: str) -> None:
    write(tmp_path, data)
    done = vpolicy(tmp_path, "check", "r.yaml")
    assert done.returncode == 2 and says in done.stderr, done.stderr


@pytest.mark.parametrize("data", [f"[{A}, {B}]", "{type: captioned-videos, path: clips}"])
def test_a_policy_cannot_learn_from_videos(tmp_path: Path, data: str) -> None:
    write(tmp_path, f"[{A}, {B}]", f"name: policy, steps: 4, batch_size: 2, data: {data}")
    done = vpolicy(tmp_path, "check", "r.yaml")
    assert done.returncode == 2
    assert "train.1.data: " in done.stderr
    assert "has videos and no actions, and this stage trains something" in done.stderr


def test_videos_are_no_data_of_a_recipe(tmp_path: Path) -> None:
    write(tmp_path, f"[{A}, {B}]")
    done = vpolicy(tmp_path, "check", "r.yaml", "data={type: captioned-videos, path: clips}")
    assert done.returncode == 2
    assert "benchmark 'toy' has actions, the data section has videos without them" in done.stderr


def test_what_a_stage_trains_without_the_recipes_data(tmp_path: Path) -> None:
    path = write(tmp_path, f"[{A}, {B}]")
    done = vpolicy(tmp_path, "check", "r.yaml", "data=null", "train.policy=null")
    assert "train.0.data.1.data: this field is required: the recipe has no data of its own" in done.stderr
    only = video((f"{STAGE}, data: [{A.replace('0.4', '1')}]",), "episodes: 1")
    path.write_text(only, encoding="utf-8")
    done = vpolicy(tmp_path, "check", "r.yaml", "data=null")
    assert "eval.episodes: the last stage, 'video', sees videos alone" in done.stderr
    assert load_recipe(path, ["data=null", "eval.episodes=0"]).data is None


def test_no_steps_see_no_data(tmp_path: Path) -> None:
    path = write(tmp_path, f"[{A}, {B}]")
    done = vpolicy(tmp_path, "check", str(path), "train.video.steps=0", "train.video.init_from=weights")
    assert "train.0.data: 0 steps train on nothing: leave it out" in done.stderr
