"""`vpolicy import`, as a user meets it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from videopolicy.cli.main import main
from videopolicy.components.plugins import file_plugin
from videopolicy.components.registry import Registry

PARTS = Path(__file__).with_name("parts.py")
RECIPE = f"""\
plugins: [{PARTS}]
benchmark: {{type: toy, task_names: [red]}}
policy: {{type: halves}}
train: [{{name: imported, init_from: weights, steps: 0}}]
"""


@pytest.fixture
def vpolicy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a command in a folder of its own; gives the exit code and all that was said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("videopolicy.components.registry.current_registry", lambda: Registry([file_plugin(PARTS)]))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["vpolicy", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out + said.err

    return run


def published(path: Path, **changes: Any) -> Path:
    """A training checkpoint of the halves on the toy benchmark: 1 view, 2 actions."""
    generator = torch.Generator().manual_seed(3)
    shapes = {"net.a.weight": (4, 3), "net.a.bias": (4,), "net.b.weight": (8, 4), "net.b.bias": (8,)}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    state |= {f"ema.{index}": torch.ones(1) for index in range(5)}
    state |= {name: value for name, value in changes.items() if value is not None}
    for name in [name for name, value in changes.items() if value is None]:
        del state[name]
    torch.save({"state_dict": state, "epoch": 1, "config": Path("x")}, path)
    return path


def test_weights_come_with_a_description_of_where_they_are_from(vpolicy: Any, tmp_path: Path) -> None:
    file = published(tmp_path / "official.ckpt")
    code, said = vpolicy("import", "halves", "official.ckpt", "-o", "weights")
    assert code == 0, said
    assert max(map(len, said.splitlines())) <= 80
    for text in (
        "network", "4", "56", "dropped 5: averages that nobody reads (ema.0 and 4 more)",
        "not run: pathlib.PosixPath", "not carried: The colour of the authors' robot.", "import with --recipe",
        "a recipe needs policy: {scale: 1.0}", "train: [{name: imported, init_from: weights, steps: 0}]",
    ):  # fmt: skip
        assert text in " ".join(said.split()), said
    state, theirs = load_file(tmp_path / "weights/weights.safetensors"), torch.load(file, weights_only=False)
    assert torch.equal(state["trained.weight"], theirs["state_dict"]["net.b.weight"])
    assert sorted(state) == ["frozen.bias", "frozen.weight", "trained.bias", "trained.weight"]
    modes = {path.stat().st_mode for path in (tmp_path / "weights").iterdir()}
    assert len(modes) == 1
    facts = json.loads((tmp_path / "weights/import.json").read_text())
    assert facts["source"] == {
        "file": "official.ckpt", "bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()
    }  # fmt: skip
    assert facts["importer"] == {"type": "halves", "half": "both"} and facts["trusted"] is False
    assert facts["dropped"] == {"averages that nobody reads": [f"ema.{index}" for index in range(5)]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["official.ckpt", "weights"]


def test_names_and_shapes_are_strict(vpolicy: Any, tmp_path: Path) -> None:
    published(tmp_path / "x.ckpt", **{"net.b.bias": None, "net.c": torch.ones(1)})
    code, said = vpolicy("import", "halves", "x.ckpt", "-o", "weights")
    assert code == 2
    assert "1 keys are missing (net.b.bias), 1 are unexpected (net.c)" in said
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    published(tmp_path / "x.ckpt", **{"net.b.weight": torch.ones(8, 5)})
    code, said = vpolicy("import", "halves", "x.ckpt", "-o", "weights", "--recipe", "recipe.yaml")
    assert code == 2
    assert "trained.weight is (8, 5) in the file and (8, 4) in the model" in said
    published(tmp_path / "x.ckpt")
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("{type: halves}", "{type: halves, scale: 2.0}"))
    code, said = vpolicy("import", "halves", "x.ckpt", "-o", "weights", "--recipe", "recipe.yaml")
    assert code == 2
    assert "scale is 2.0 in the recipe and must be 1.0" in said
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("{type: halves}", "{type: toy}"))
    code, said = vpolicy("import", "halves", "x.ckpt", "-o", "weights", "--recipe", "recipe.yaml")
    assert code == 2
    assert not (tmp_path / "weights").exists()


def test_what_a_component_loads_by_itself_need_not_be_there(vpolicy: Any, tmp_path: Path) -> None:
    published(tmp_path / "x.ckpt", **{"net.a.weight": None, "net.a.bias": None})
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    arguments = ("import", "halves", "x.ckpt", "-o", "weights", "--recipe", "recipe.yaml")
    assert "2 keys are missing (net.a.bias, net.a.weight)" in vpolicy(*arguments)[1]
    code, said = vpolicy(*arguments, "half=trained")
    assert code == 0, said
    config = json.loads((tmp_path / "weights/config.json").read_text())
    assert config == {"component": {"type": "halves", "scale": 1.0}, "frozen": ["frozen."]}


def test_the_scaling_comes_from_the_recipes_data(vpolicy: Any, tmp_path: Path) -> None:
    published(tmp_path / "x.ckpt")
    (tmp_path / "recipe.yaml").write_text(RECIPE + "data: {type: pictures}\nnormalization: {actions: minmax}\n")
    code, said = vpolicy("import", "halves", "x.ckpt", "-o", "weights", "--recipe", "recipe.yaml")
    assert code == 0 and "scaling of actions and state: from the recipe's data" in said, said
    assert "names, shapes and options: those of recipe recipe" in said and "import with --recipe" not in said
    scaling = json.loads((tmp_path / "weights/normalization.json").read_text())
    assert scaling["modes"]["actions"] == "minmax" and scaling["statistics"]["actions"]["maximum"] == [1.0, 1.0]
    # Without scaling, the weights that replace these do not keep theirs.
    assert vpolicy("import", "halves", "x.ckpt", "-o", "weights", "--force")[0] == 0
    assert not (tmp_path / "weights/normalization.json").exists()


def test_weights_are_replaced_only_when_asked(vpolicy: Any, tmp_path: Path) -> None:
    published(tmp_path / "x.ckpt")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/notes.txt").write_text("mine")
    assert vpolicy("import", "halves", "x.ckpt", "-o", "weights")[0] == 0
    before = (tmp_path / "weights/weights.safetensors").read_bytes()
    published(tmp_path / "x.ckpt", **{"net.b.bias": torch.zeros(8)})
    code, said = vpolicy("import", "halves", "x.ckpt", "-o", "weights")
    assert code == 2 and "holds weights already" in said and "--force" in said
    (tmp_path / "broken.ckpt").write_bytes((tmp_path / "x.ckpt").read_bytes()[:900])
    assert vpolicy("import", "halves", "broken.ckpt", "-o", "weights", "--force")[0] == 2
    assert (tmp_path / "weights/weights.safetensors").read_bytes() == before
    assert vpolicy("import", "halves", "x.ckpt", "-o", "weights", "--force")[0] == 0
    assert (tmp_path / "weights/weights.safetensors").read_bytes() != before
    assert (tmp_path / "weights/notes.txt").read_text() == "mine"
    code, said = vpolicy("import", "halves", "x.ckpt", "-o", "x.ckpt")
    assert code == 2 and "x.ckpt is a file" in said


def test_bad_arguments(vpolicy: Any, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "x.ckpt")
    for arguments, said in {
        ("halfs", "x.ckpt"): "There is no importer named 'halfs'. Did you mean 'halves'?",
        ("halves", "y.ckpt"): "There is no checkpoint y.ckpt.",
        ("halves", "x.ckpt"): "x.ckpt is not of the halves.",
        ("halves", "x.ckpt", "half=left"): "half: Input should be 'both' or 'trained'",
        ("halves", "x.ckpt", "whole=1"): "whole: there is no such field. Known: half, type.",
    }.items():
        code, found = vpolicy("import", *arguments, "-o", "deep/weights")
        assert code == 2 and said in found, found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.ckpt"]


def test_a_failure_while_writing_leaves_nothing(vpolicy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        from safetensors import SafetensorError

        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("videopolicy.importing.folder.save_file", full)
    published(tmp_path / "x.ckpt")
    code, said = vpolicy("import", "halves", "x.ckpt", "-o", "weights")
    assert code == 2 and "No space left on device" in said and "Free some space" in said
    assert [path.name for path in tmp_path.iterdir()] == ["x.ckpt"]


def test_the_layout_of_another_library(vpolicy: Any, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2, 2)}, tmp_path / "x.bin")
    code, said = vpolicy("import", "list", "x.bin", "-o", "weights")
    assert code == 0 and "init_from" not in said
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == [
        "config.json", "import.json", "model.safetensors"
    ]  # fmt: skip
    assert json.loads((tmp_path / "weights/config.json").read_text()) == {"size": 2}


def test_importers_are_listed(vpolicy: Any) -> None:
    said = vpolicy("plugins")[1]
    assert "halves importer" in " ".join(said.split())
    code, said = vpolicy("describe", "halves")
    assert code == 0 and "vpolicy import halves FILE -o FOLDER" in said
    assert "Reads what the authors of the halves" in " ".join(said.split())


def pair(folder: Path, width: int = 4) -> Path:
    for name, value in {"a": torch.ones(8, width), "b": torch.ones(8)}.items():
        (folder / name).mkdir(parents=True)
        save_file({"w": value}, folder / name / "x.safetensors")
    return folder


def test_files_of_a_folder_are_taken_over_as_they_are(vpolicy: Any, tmp_path: Path) -> None:
    pair(tmp_path / "published")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    code, said = vpolicy("import", "pair", "published", "-o", "weights", "--recipe", "recipe.yaml")
    assert code == 0, said
    assert "published, for policy" in said and "policy.weights: weights" in said and "init_from" not in said
    assert "files taken over as they are: 2 (linked, no copy)" in " ".join(said.split())
    written = sorted(str(path.relative_to(tmp_path / "weights")) for path in (tmp_path / "weights").rglob("*.*"))
    assert written == ["a/config.json", "a/x.safetensors", "b/x.safetensors", "import.json"]
    for name in ("a", "b"):
        assert (tmp_path / "weights" / name / "x.safetensors").samefile(tmp_path / "published" / name / "x.safetensors")
    source = json.loads((tmp_path / "weights/import.json").read_text())["source"]
    files = {f"{name}/x.safetensors": tmp_path / "published" / name / "x.safetensors" for name in ("a", "b")}
    assert source == {
        "file": "published",
        "bytes": sum(path.stat().st_size for path in files.values()),
        "files": {
            name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for name, path in files.items()
        },
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published", "recipe.yaml", "weights"]
    code, said = vpolicy("import", "pair", "published", "-o", "published")
    assert code == 2 and "published is the folder that is read" in said


def test_what_is_taken_over_is_compared_with_the_recipe_too(vpolicy: Any, tmp_path: Path) -> None:
    pair(tmp_path / "published", width=5)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    code, said = vpolicy("import", "pair", "published", "-o", "weights", "--recipe", "recipe.yaml")
    assert code == 2 and "trained.weight is (8, 5) in the file and (8, 4) in the model" in said
    assert not (tmp_path / "weights").exists()


def test_a_folder_may_stand_for_one_file(vpolicy: Any, tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    torch.save({"w": torch.ones(2)}, tmp_path / "published/one.pt")
    code, said = vpolicy("import", "pair", "published", "-o", "weights")
    assert code == 0 and "one.pt, for a folder of its own" in said, said
    code, said = vpolicy("import", "list", "published", "-o", "others")
    assert code == 2 and "published is a folder" in said and "there are one.pt" in said


def test_objects_in_place_of_tensors_need_trust(vpolicy: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": Path("x")}, tmp_path / "x.ckpt")
    code, said = vpolicy("import", "halves", "x.ckpt", "-o", "weights")
    said = " ".join(said.split())
    assert code == 2 and "it is an object of class pathlib.PosixPath" in said and "Read it with --trust" in said, said
