"""Python files of somebody else's run folder are not run, and ``~`` is the home folder wherever a path stands."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.recipe.test_recipe_errors import RECIPE
from tests.support.command import vpolicy
from tests.support.toy_recipes import linear
from videopolicy.errors import WeightsError
from videopolicy.paths import PathError, expanded
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage import surroundings
from videopolicy.storage.store import Store
from videopolicy.weights import pretrained_folder

PARTS = Path(__file__).with_name("parts.py")
RECORD = {
    "policy": "trained",
    "task": "drawer-close-v3",
    "episode": 0,
    "success": True,
    "score": 1.0,
    "steps": 3,
    "initial_state": "a",
    "protocol": "p",
    "seconds": 1.0,
}


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """A run folder from elsewhere, whose recipe names a file that leaves a trace when it runs."""
    run = tmp_path / "runs" / "theirs"
    run.mkdir(parents=True)
    (run / "parts.py").write_text(f"{PARTS.read_text()}\nopen({str(tmp_path / 'trace')!r}, 'w').close()\n")
    (run / "recipe.yaml").write_text("name: theirs\n" + RECIPE, encoding="utf-8")
    (run / "episodes.jsonl").write_text(json.dumps(RECORD) + "\n", encoding="utf-8")
    return run


@pytest.mark.parametrize(
    "command",
    [
        ("show", "runs/theirs"),
        ("report", "runs/theirs"),
        ("compare",),
        ("compare", "--format", "html"),
        ("quality", "runs/theirs"),
    ],
    ids=" ".join,
)
def test_files_that_a_run_folder_names_run_with_trust_only(received: Path, command: tuple[str, ...]) -> None:
    folder = received.parents[1]
    careful = vpolicy(folder, *command)
    assert not (folder / "trace").exists()
    pages = [page.read_text() for page in (received / "report.html", folder / "comparison.html") if page.exists()]
    told = " ".join("".join([careful.stdout, careful.stderr, *pages]).split())
    if command[0] != "quality":  # which can do nothing without the policy
        assert careful.returncode == 0
    assert "names Python files, which were not run" in told and "--trust" in told
    with contextlib.suppress(NotImplementedError):  # of a benchmark that is only a table
        vpolicy(folder, *command, "--trust")
    assert (folder / "trace").exists()


def test_what_needs_no_code_is_shown(received: Path) -> None:
    recipe = (received / "recipe.yaml").read_text().replace("{type: table}", "{type: metaworld}")
    (received / "recipe.yaml").write_text(recipe, encoding="utf-8")
    result = vpolicy(received.parents[1], "show", "runs/theirs")
    assert result.returncode == 0 and not (received.parents[1] / "trace").exists()
    assert "mean of all tasks" in result.stdout and "Published, not measured here" in result.stdout
    assert "was not run" not in result.stdout


@pytest.mark.parametrize("files", ["5", "[5]", "{a: b}", "['a\\0']", "[/dev/zero]", "[.]", "[~nobody-at-all/a.py]"])
def test_a_run_folder_may_name_what_it_likes_as_files(received: Path, files: str) -> None:
    recipe = (received / "recipe.yaml").read_text().replace("[./parts.py]", files)
    (received / "recipe.yaml").write_text(recipe, encoding="utf-8")
    for command in (("show", "runs/theirs"), ("compare",)):
        assert vpolicy(received.parents[1], *command, "--trust").returncode == 0


def test_a_run_folder_with_a_bomb_or_a_pipe_is_named(received: Path) -> None:
    folder = received.parents[1]
    lines = "".join(f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    (received / "recipe.yaml").write_text(f"x0: &a0 [1]\n{lines}", encoding="utf-8")
    for command in (("show", "runs/theirs"), ("compare", "--benchmark", "metaworld")):
        assert vpolicy(folder, *command).returncode == 0
    assert "values" in " ".join(vpolicy(folder, "show", "runs/theirs").stdout.split())
    (received / "recipe.yaml").unlink()
    os.mkfifo(received / "recipe.yaml")
    assert "is a named pipe" in " ".join(vpolicy(folder, "show", "runs/theirs").stdout.split())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "me"
    home.mkdir()
    shutil.copy(PARTS, home)
    (home / "base.yaml").write_text(RECIPE.replace("./parts.py", "~/parts.py"), encoding="utf-8")
    monkeypatch.setenv("HOME", str(home))
    return home


def test_home_is_meant_in_recipes(home: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("extends: ~/base.yaml\n", encoding="utf-8")
    recipe = load_recipe(tmp_path / "r.yaml", ["train.video.init_from=~/w", "train.act.init_from=$HOME/v"])
    assert [stage.init_from for stage in recipe.train] == [home / "w", home / "v"]
    (tmp_path / "rows.yaml").write_text(
        "base: ~/base.yaml\nsource: a paper\nrows: [{name: a}, {name: b, base: ~/base.yaml}]\n", encoding="utf-8"
    )
    assert vpolicy(tmp_path, "check", "rows.yaml").returncode == 0
    assert vpolicy(tmp_path, "check", "rows.yaml", "base=~/none.yaml").returncode == 2


def test_home_is_meant_on_the_command_line(home: Path, tmp_path: Path) -> None:
    assert vpolicy(tmp_path, "check", "~/base.yaml").returncode == 0
    assert vpolicy(tmp_path, "run", "~/base.yaml", "--dry-run").returncode == 0
    for command in (
        ("show", "~/x"),
        ("report", "~/x"),
        ("compare", "--runs", "~/x"),
        ("store", "list", "--runs", "~/x"),
    ):
        result = vpolicy(tmp_path, *command)
        assert (result.returncode, f"{home}/x" in result.stderr) == (2, True)
    written = vpolicy(tmp_path, "compare", "--benchmark", "metaworld", "--format", "json", "-o", "~/c.json")
    assert written.returncode == 0 and (home / "c.json").is_file()
    assert not (tmp_path / "~").exists()


def test_home_is_meant_in_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPOLICY_HOME", "~/store")
    assert Store().root == home / "store"


def test_a_run_is_written_to_where_it_was_asked(home: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(linear("episodes: 1"), encoding="utf-8")
    asked = ("--runs", "~/runs", "train.policy.init_from=~/w")
    result = vpolicy(tmp_path, "run", "toy.yaml", *asked, VPOLICY_HOME="~/store")
    assert result.returncode == 2 and f"{home}/w" in result.stderr
    assert not (tmp_path / "~").exists() and (home / "runs").is_dir()


def test_paths_that_cannot_be() -> None:
    for text in ("~nobody-at-all/x", "$NOT_A_VARIABLE_HERE/x", "${NOT_A_VARIABLE_HERE}", "a" * 256, "a\0b"):
        with pytest.raises(PathError):
            expanded(text)
    assert expanded("a$HOME/~") == Path("a$HOME/~")


def test_weights_are_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.safetensors is a named pipe"):
        pretrained_folder(str(tmp_path), "The model", ["model.safetensors"])
    os.mkfifo(tmp_path / "w.ckpt")
    result = vpolicy(tmp_path, "import", "uva", "w.ckpt", "-o", "out")
    assert result.returncode == 2 and "w.ckpt is a named pipe, not a file." in result.stderr
    result = vpolicy(tmp_path, "data", "info", "w.ckpt")
    assert result.returncode == 2 and "w.ckpt is a named pipe" in result.stderr


def test_a_commit_is_none_where_git_is_missing_or_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert surroundings.commit() is None
    for text, mode in (
        ("#!/bin/sh\nexit 128\n", 0o755),
        ("#!/bin/sh\nprintf '\\377'\n", 0o755),
        ("", 0o644),
        ("x", 0o755),
    ):
        (tmp_path / "git").write_text(text)
        (tmp_path / "git").chmod(mode)
        surroundings.commit()
    assert surroundings.commit() is None
