"""Recipes that come with the package run by their names, from any folder."""

from pathlib import Path

import pytest
import yaml
from command import vpolicy

from videopolicy.cli import completing
from videopolicy.errors import RecipeError
from videopolicy.recipes.ablation import load_ablation
from videopolicy.recipes.recipe import load_recipe
from videopolicy.recipes.shipped import located, shipped_folder, shipped_recipes

ROOT = Path(__file__).resolve().parents[2]


def test_a_name_is_the_recipe_that_comes_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    by_name, by_path = load_recipe(Path("quickstart")), load_recipe(ROOT / "recipes" / "quickstart.yaml")
    assert by_name.name == "quickstart"
    assert by_name.model_dump(mode="json") == by_path.model_dump(mode="json")


def test_a_file_of_that_name_goes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "recipes" / "quickstart.yaml").read_text(encoding="utf-8")
    Path("quickstart").write_text(text.replace("name: quickstart", "name: mine"), encoding="utf-8")
    assert located(Path("quickstart")) == Path("quickstart")
    assert load_recipe(Path("quickstart")).name == "mine"


@pytest.mark.parametrize("name", ["../quickstart", "goals", "/quickstart", "quickstart.yaml", ""])
def test_what_is_no_name_stays_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert located(Path(name)) == Path(name)


def test_an_own_recipe_extends_one_by_its_name(tmp_path: Path) -> None:
    own = tmp_path / "wider.yaml"
    own.write_text("extends: quickstart\npolicy:\n  decoder: {width: 64}\n", encoding="utf-8")
    loaded = load_recipe(own)
    assert loaded.name == "quickstart"
    assert loaded.policy.decoder.width == 64
    (tmp_path / "quickstart").write_text("extends: nothing\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="itself extends nothing"):
        load_recipe(own)  # the file beside it goes first


def test_an_ablation_and_its_base_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = Path("vpp_calvin_small")
    by_name = load_ablation(Path("ablations/vpp_table3"), small)
    by_path = load_ablation(ROOT / "recipes/ablations/vpp_table3.yaml", ROOT / "recipes/vpp_calvin_small.yaml")
    assert [one.recipe.name for one in by_name.variants] == [one.recipe.name for one in by_path.variants]
    assert len(by_name.variants) >= 4


def test_every_file_is_listed_with_a_summary() -> None:
    listed = shipped_recipes()
    folder = shipped_folder()
    assert {one.path for one in listed} == {*folder.glob("*.yaml"), *folder.glob("ablations/*.yaml")}
    for one in listed:
        assert 20 < len(one.summary) < 400, one
        assert not one.summary.endswith("."), one


def test_recipes_are_found_by_words(tmp_path: Path) -> None:
    done = vpolicy(tmp_path, "recipes", "CALVIN", "ablations/")
    assert done.returncode == 0
    names = [line.strip() for line in done.stdout.splitlines() if not line.startswith(" ")][:-1]
    expected = [one.name for one in shipped_recipes() if one.name.startswith("ablations/")]
    assert names
    assert set(names) < set(expected)
    assert max(map(len, done.stdout.splitlines())) <= 80
    missing = vpolicy(tmp_path, "recipes", "nonesuch")
    assert missing.returncode == 2
    assert "No recipe has nonesuch" in missing.stderr


def test_copied_recipes_are_the_same_and_nothing_is_overwritten(tmp_path: Path) -> None:
    assert vpolicy(tmp_path, "recipes", "--copy", "recipes").returncode == 0
    copied = yaml.safe_load((tmp_path / "recipes/vpp_calvin_small.yaml").read_text(encoding="utf-8"))
    assert copied["extends"] == "quickstart.yaml"
    (tmp_path / "recipes/quickstart.yaml").write_text("changed", encoding="utf-8")
    again = vpolicy(tmp_path, "recipes", "--copy", "recipes")
    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert (tmp_path / "recipes/quickstart.yaml").read_text(encoding="utf-8") == "changed"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("quickstrat", "Did you mean quickstart?"),
        ("recipes/quickstart.yaml", "Did you mean quickstart, which comes with the package?"),
        ("nothing-like-it", "a name that `vpolicy recipes` lists"),
    ],
)
def test_a_recipe_that_is_missing(given: str, hint: str, tmp_path: Path) -> None:
    done = vpolicy(tmp_path, "run", given)
    assert done.returncode == 2
    assert f"There is no recipe {given}." in done.stderr
    assert hint in done.stderr


def test_a_shell_completes_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quick.yaml").touch()
    assert completing.recipes("quick") == ["quick.yaml", "quickstart"]
    assert "ablations/vpp_table3" in completing.recipes("ablations/vpp")
