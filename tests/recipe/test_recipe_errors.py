"""What a recipe's author is told: the file, the line, the path, and what it probably should have been."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from videopolicy import PluginError, RecipeError
from videopolicy.recipes.recipe import Recipe, load_recipe

RECIPE = """\
plugins: [./parts.py]
benchmark: {type: table}
data: {type: tape}
policy:
  type: modular
  extractor:
    type: eye
    backbone:
      type: film
      frozen: true
  decoder: {type: hand, horizon: 3}
train:
  - name: video
    target: policy.extractor.backbone
    steps: 10
    batch_size: 3
    optimizer: {learning_rate: 1e-3}
  - {name: act, steps: 5, batch_size: 2}
eval: {episodes: 2, execute: 3}
"""


@pytest.fixture
def write(tmp_path: Path):
    shutil.copy(Path(__file__).with_name("parts.py"), tmp_path / "parts.py")

    def write(text: str, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_recipe_is_read_as_written(write):
    recipe = load_recipe(write(RECIPE))
    assert recipe.name == "recipe"
    assert recipe.train[0].optimizer.learning_rate == 1e-3
    assert recipe.part("policy.extractor.backbone").type == "film"
    assert recipe.policy.window().horizon == 3
    assert [part.type for part in recipe.components()] == ["table", "tape", "modular", "eye", "hand", "film"]


def test_what_was_resolved_can_be_read_again(write):
    recipe = load_recipe(write(RECIPE))
    again = Recipe.model_validate(recipe.model_dump(mode="json"), context={"registry": recipe.registry})
    assert again.model_dump() == recipe.model_dump()


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "text"),
    [
        ("frozen: true", "frzen: true", 10, "policy.extractor.backbone.frzen", "Did you mean 'frozen'"),
        ("type: film", "type: flim", 8, "policy.extractor.backbone", "Did you mean 'film'"),
        ("type: modular", "type: modula", 4, "policy", "Did you mean 'modular'"),
        ("steps: 10", "steps: -1", 15, "train.0.steps", "greater than or equal to 0 (it is -1)"),
        ("steps: 10", "steps: many", 15, "train.0.steps", "it is 'many'"),
        ("steps: 10", "stpes: 10", 15, "train.0.stpes", "Did you mean 'steps'"),
        ("learning_rate: 1e-3", "learning_rat: 1e-3", 17, "train.0.optimizer.learning_rat", "Did you mean 'learning_r"),
        ("extractor.backbone", "extractor.bacbone", 14, "train.0.target", "Did you mean 'backbone'"),
        ("policy.extractor.backbone", "policy.decoder", 14, "train.0.target", "cannot be trained on its own"),
        ("name: act", "name: video", 18, "train.1.name", "also named 'video'"),
        ("episodes: 2", "episodes: -1", 19, "eval.episodes", "greater than or equal to 0 (it is -1)"),
        ("execute: 3", "execute: 4", 19, "eval.execute", "the policy predicts 3"),
        ("horizon: 3", "width: 9", 4, "policy", "takes width 9, the eye gives one vector of width 8"),
        ("type: eye", "type: eye\n    cameras: 2", 4, "policy", "needs 2 cameras, there are 1"),
        ("data: {type: tape}", "data: tape", 3, "data", "a mapping with a 'type'"),
        ("data: {type: tape}", "data: {type: film}", 3, "data", "'film' is of kind backbone"),
        ("eval:", "evl:", 19, "evl", "Did you mean 'eval'"),
    ],
)
def test_mistakes_are_told_with_file_line_and_path(write, old, new, line, path, text):
    assert old in RECIPE
    file = write(RECIPE.replace(old, new, 1))
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    (told,) = [told for told in caught.value.message.splitlines() if f": {path}: " in told]
    assert f"{file}:{line}: {path}: " in told
    assert text in told
    assert caught.value.hint


def test_all_mistakes_are_told_at_once(write):
    file = write(RECIPE.replace("steps: 10", "steps: -1").replace("episodes: 2", "episodes: -1"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    assert "train.0.steps" in caught.value.message and "eval.episodes" in caught.value.message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1\nb: 2", "recipe.yaml:2 is not valid YAML"),
        ("seed: 1\nseed: 2", "recipe.yaml:2 is not valid YAML: 'seed' stands twice"),
        ("- a", "holds list, not a mapping"),
    ],
)
def test_broken_yaml_is_told_with_its_line(write, text, told):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text))
    assert told in caught.value.message


def test_a_missing_file_names_its_neighbour(write):
    file = write(RECIPE)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file.with_name("recipes.yaml"))
    assert str(file) in caught.value.hint


def test_extends_lays_values_over_a_base(write):
    base = write(RECIPE, "base.yaml")
    child = write("extends: base.yaml\nseed: 7\npolicy: {decoder: {horizon: 5}}\n", "child.yaml")
    recipe = load_recipe(child)
    assert (recipe.name, recipe.seed, recipe.policy.window().horizon) == ("child", 7, 5)
    wrong = write("extends: base.yaml\npolicy:\n  decoder: {horizn: 5}\n", "wrong.yaml")
    with pytest.raises(RecipeError, match=r"wrong\.yaml:3: policy\.decoder\.horizn"):
        load_recipe(wrong)
    base.write_text(RECIPE.replace("frozen", "frzen"), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"base\.yaml:10: policy\.extractor\.backbone\.frzen"):
        load_recipe(child)


def test_another_type_replaces_the_old_options(write):
    write(RECIPE.replace("type: film", "type: film\n      width: 16"), "base.yaml")
    child = write("extends: base.yaml\npolicy: {extractor: {backbone: {type: film}}}\n", "child.yaml")
    assert (
        load_recipe(write("extends: base.yaml\n", "same.yaml"), ["policy.decoder.width=16"])
        .part("policy.extractor.backbone")
        .width
        == 16
    )
    with pytest.raises(RecipeError, match="There is no backbone named 'other'") as caught:
        load_recipe(child, ["policy.extractor.backbone.type=other"])
    assert "width" not in caught.value.message.split("named 'other'")[0]


def test_extends_goes_one_level_only(write):
    write(RECIPE, "base.yaml")
    write("extends: base.yaml\n", "middle.yaml")
    with pytest.raises(RecipeError, match=r"middle\.yaml itself extends base\.yaml"):
        load_recipe(write("extends: middle.yaml\n", "top.yaml"))


def test_overrides_reach_everything(write):
    file = write(RECIPE)
    recipe = load_recipe(
        file, ["train.video.steps=99", "--train.1.batch_size=7", "policy.decoder.horizon=6", "name=other"]
    )
    assert (recipe.train[0].steps, recipe.train[1].batch_size, recipe.name) == (99, 7, "other")
    assert recipe.policy.window().horizon == 6


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed", "'seed' is no override"),
        ("train.vidio.steps=1", "has no item 'vidio'. Did you mean 'video'?"),
        ("seed.x=1", "override 'seed.x=1'"),
        ("data.type.x=1", "'data.type' is 'tape' and has no fields"),
        ("eval.episods=1", "Did you mean 'episodes'?"),
    ],
)
def test_wrong_overrides_are_told(write, text, told):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(RECIPE), [text])
    assert told in caught.value.message


def test_a_plugin_file_that_is_missing_or_broken(write):
    with pytest.raises(PluginError, match="does not exist"):
        load_recipe(write(RECIPE.replace("parts.py", "prts.py")))
    write("raise ValueError('oh no')\n", "bad.py")
    with pytest.raises(PluginError, match="oh no"):
        load_recipe(write(RECIPE.replace("parts.py", "bad.py")))


def test_the_command_line_prints_message_and_hint_without_traceback(write):
    file = write(RECIPE.replace("frozen", "frzen"))
    command = [sys.executable, "-m", "videopolicy", "check", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "Did you mean 'frozen'?" in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_invalid_declaration_names_the_component_and_its_file(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(
        "from typing import Literal\n\n"
        "from videopolicy import ActionSpace, Spaces, hookimpl\n"
        "from videopolicy.testing.toy_benchmark import ToyBenchmark\n\n\n"
        "class Bent(ToyBenchmark):\n"
        "    type: Literal['bent'] = 'bent'\n\n"
        "    def spaces(self):\n"
        "        actions = ActionSpace(names=('x',), low=(-1,), high=(1,), control='torque', rate=10)\n"
        "        return Spaces(cameras=(), actions=actions, state=None)\n\n\n"
        "@hookimpl\n"
        "def vpolicy_components():\n"
        "    return [Bent]\n",
        encoding="utf-8",
    )
    recipe = tmp_path / "bent.yaml"
    recipe.write_text(
        "extends: first_policy\nplugins: [videopolicy.testing.toys, videopolicy.testing.toy_dataset, ./ours.py]\n",
        encoding="utf-8",
    )
    with pytest.raises(PluginError) as caught:
        load_recipe(recipe, ["benchmark={type: bent}"])
    assert "`Bent.spaces` of benchmark 'bent' declares an invalid ActionSpace" in caught.value.message
    assert "control: Input should be 'delta_position'" in caught.value.message
    assert "(it is 'torque')" in caught.value.message
    assert "ours.py" in caught.value.hint
