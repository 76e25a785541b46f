"""`vpolicy new` writes parts that work as written, and overwrites nothing."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import vpolicy

from videopolicy.components.plugins import Plugin, file_plugin
from videopolicy.components.registry import Registry, current_registry
from videopolicy.recipes.recipe import load_recipe
from videopolicy.scaffold.names import Names
from videopolicy.scaffold.writing import KINDS, write_file, write_package

ELSEWHERE = "not without_importing_torch"  # that takes a process for every package; here one looks at all of them


def names(kind: str) -> Names:
    return Names(kind, f"tried-{kind}")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A package of every kind by its kind, each of which can be imported."""
    folder = tmp_path_factory.mktemp("packages")
    written = {kind: write_package(names(kind), folder, Registry()) for kind in KINDS}
    with pytest.MonkeyPatch.context() as patch:
        for place in written.values():
            patch.syspath_prepend(place / "src")
        yield written
    for name in [name for name in sys.modules if name.startswith("vpolicy_tried_")]:
        del sys.modules[name]


def test_packages_pass_their_own_tests(packages: dict[str, Path], capsys: pytest.CaptureFixture[str]):
    folder = next(iter(packages.values())).parent
    arguments = ["-c", "/dev/null", "--rootdir", str(folder), "-p", "no:cacheprovider", "--import-mode=importlib", "-q"]
    code = pytest.main([*arguments, "-k", ELSEWHERE, *(str(place / "tests") for place in packages.values())])
    said = capsys.readouterr().out
    assert code == 0, said
    # The simulator was started: what needs its environment was not left out.
    assert "not installed" not in said and " passed" in said


def test_packages_are_listed_without_torch(packages: dict[str, Path]):
    modules = ", ".join(names(kind).package for kind in packages)
    code = f"import sys; sys.path[:0] = {[str(place / 'src') for place in packages.values()]}; import {modules}"
    done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_recipe_of_a_package_needs_the_core_alone(packages: dict[str, Path], kind: str):
    module = importlib.import_module(names(kind).package)
    core = [plugin for plugin in current_registry().plugins if plugin.distribution.startswith("videopolicy ")]
    registry = Registry([*core, Plugin("tried", "tests", module.vpolicy_components())])
    recipe = load_recipe(packages[kind] / "recipe.yaml", registry=registry)
    assert kind == "importer" or f"tried-{kind}" in [part.type for part in recipe.components()]


def test_packages_and_files_are_clean(packages: dict[str, Path], tmp_path: Path):
    ruff = Path(sys.executable).with_name("ruff")
    folder = next(iter(packages.values())).parent
    for kind in KINDS:
        write_file(names(kind), tmp_path, Registry())
    for command in (["check", str(folder), str(tmp_path)], ["format", "--check", str(folder)]):
        done = subprocess.run([ruff, *command, "--no-cache", "-q"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_what_the_package_holds(packages: dict[str, Path], kind: str, tmp_path: Path):
    file = write_file(names(kind), tmp_path, Registry())
    (component,) = file_plugin(file).components
    assert (component.kind, component.name()) == (kind, f"tried-{kind}")
    whole = definitions(file, names(kind).package)
    in_package = [
        definition
        for module in (packages[kind] / "src" / names(kind).package).glob("*.py")
        for definition in definitions(module, names(kind).package)
        if "vpolicy_components" not in definition
    ]
    assert sorted(in_package) == sorted(whole)


def definitions(path: Path, package: str) -> list[str]:
    """Classes and functions of a file as text, without imports of their own package, the simulator in one place."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [
                one for one in node.body if not (isinstance(one, ast.ImportFrom) and package in str(one.module))
            ]
    found = [ast.unparse(node) for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return [one.replace("Path(__file__).with_name('simulator.py')", "Path(__file__)") for one in found]


def test_command_says_what_to_do_next(tmp_path: Path):
    done = vpolicy(tmp_path, "new", "decoder", "quick-one")
    assert done.returncode == 0 and "cd vpolicy-quick-one" in done.stdout
    assert (
        "class QuickOne(DecoderComponent)"
        in (tmp_path / "vpolicy-quick-one/src/vpolicy_quick_one/__init__.py").read_text()
    )
    done = vpolicy(tmp_path, "new", "decoder", "quick-one", "--file")
    assert done.returncode == 0 and "plugins: [./quick_one.py]" in done.stdout


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("decoders", "mine", "Did you mean 'decoder'?"),
        ("decoder", "My_Decoder", "Call it 'my-decoder', say."),
        ("decoder", "2d", "Call it 'my-decoder', say."),
        ("decoder", "../mine", "is no name for a part"),
        ("decoder", "a" * 41, "at most 40"),
        ("decoder", "class", "a word of Python's own"),
        ("dataset", "none", "a word of Python's own"),
        ("policy", "modular", "There is a policy 'modular' already, of videopolicy"),
        ("policy", "worker", "There is a package vpolicy_worker already."),
        ("extractor", "window", "would be called Window"),
    ],
)
def test_a_name_that_cannot_be_given_is_explained(tmp_path: Path, kind: str, name: str, told: str):
    done = vpolicy(tmp_path, "new", kind, name)
    assert done.returncode == 2 and told in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path):
    kept = tmp_path / "vpolicy-mine" / "kept.txt"
    kept.parent.mkdir()
    assert vpolicy(tmp_path, "new", "text", "mine").returncode == 2
    kept.write_text("mine")
    (tmp_path / "mine.py").write_text("mine")
    for more in ([], ["--file"]):
        done = vpolicy(tmp_path, "new", "policy", "mine", *more)
        assert done.returncode == 2 and "is there already" in done.stderr
    assert [path.read_text() for path in (kept, tmp_path / "mine.py")] == ["mine", "mine"]
    assert list(kept.parent.iterdir()) == [kept] and len(list(tmp_path.iterdir())) == 2
    kept.unlink()
    assert vpolicy(tmp_path, "new", "policy", "mine").returncode == 0  # an empty folder is nobody's
