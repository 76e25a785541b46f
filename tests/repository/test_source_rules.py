"""Rules that every source file keeps: what the core may name, how large it is, and what must not be in the tree."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import videopolicy
from videopolicy.components.plugins import installed_plugins

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "src" / "videopolicy"
PACKAGES = sorted(
    path.parent for path in (*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("benchmarks/*/pyproject.toml"))
)
IMPORTED = [CORE, *(path.parent for one in PACKAGES for path in (one / "src").glob("*/__init__.py"))]
"""Folders that Python imports."""

MODULE_LINES = 400
# Methods, datasets and simulators that need not be installed to be forbidden in the core.
WELL_KNOWN = (
    *("aloha", "calvin", "diffusion-policy", "libero", "maniskill", "metaworld", "mujoco", "openvla", "pusht"),
    *("pybullet", "rlbench", "robocasa", "robomimic", "robosuite", "sawyer", "stable-video", "svd", "uva"),
    *("video-former", "video-policy", "vpp"),
)

ORDINARY = {"encoders", "image", "remote"}
"""Names of packages and components that are words of everyday language."""


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so the tracked files are unknown")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def matches(pattern: re.Pattern[str], paths: list[Path]) -> Iterator[str]:
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, start=1):
            if pattern.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


def provided_names() -> set[str]:
    """Names of first-party plugins and of every component that they provide."""
    names = {package.name for package in PACKAGES} - {"worker"}
    for plugin in installed_plugins():
        if plugin.distribution.startswith("vpolicy-"):
            names |= {component.name() for component in plugin.components}
    return names - ORDINARY


def test_core_names_no_method_dataset_or_simulator():
    written = [re.escape(name).replace(r"\-", "[-_]") for name in sorted(provided_names())]
    spoken = [re.escape(name).replace(r"\-", "[-_ ]") for name in WELL_KNOWN]
    pattern = re.compile(rf"(?<![a-z])(?:{'|'.join(written + spoken)})(?![a-z])", re.IGNORECASE)
    # MUJOCO_GL is the variable by which users choose a renderer, whatever the simulator.
    assert [line for line in matches(pattern, sorted(CORE.rglob("*.py"))) if "MUJOCO_GL" not in line] == []


def test_no_machine_path_or_package_index_is_tracked():
    place = r"(?<![\w.\]*~-])/(?:work|tmp|root|home|mnt|opt)/[\w.]"
    address = r"pypi\.org|pythonhosted|/simple/?(?:\s|$|\")|--(?:extra-)?index-url|deb\.debian\.org"
    files = [path for path in tracked_files() if path != Path(__file__)]
    assert list(matches(re.compile(f"{place}|{address}"), files)) == []


def test_nothing_is_left_for_later():
    pattern = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
    files = [path for path in tracked_files() if path != Path(__file__)]
    assert list(matches(pattern, files)) == []


def test_modules_are_small():
    sources = [path for path in tracked_files() if path.suffix == ".py"]
    long = {
        str(path.relative_to(ROOT)): n for path in sources if (n := len(path.read_text().splitlines())) > MODULE_LINES
    }
    assert long == {}


def imports(tree: ast.AST, types_too: bool = True) -> Iterator[tuple[int, str, list[str]]]:
    """Line, module and imported names of every import, those inside functions too; no names for ``import module``.

    Args:
        tree: What to look through.
        types_too: Whether to count what is imported for type checkers alone.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types_too:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module or "", [alias.name for alias in node.names]
        yield from imports(node, types_too)


PUBLIC = ("videopolicy.parts", "videopolicy.testing")
"""What plugins may import besides the names that the package itself offers."""


def is_public(module: str, names: list[str]) -> bool:
    """Whether an import of ``names`` from a module of the core is one of its public API; of a module when empty."""
    if module == "videopolicy":
        return bool(names) and set(names) <= {*videopolicy.__all__, "parts", "testing"}
    return any(module == public or module.startswith(f"{public}.") for public in PUBLIC)


def test_plugins_import_only_the_public_api():
    sources = [path for package in PACKAGES for path in sorted((package / "src").rglob("*.py"))]
    private = [
        f"{path.relative_to(ROOT)}:{line}: {module} {', '.join(names)}"
        for path in sources
        for line, module, names in imports(ast.parse(path.read_text(encoding="utf-8")))
        if module.partition(".")[0] == "videopolicy" and not is_public(module, names)
    ]
    assert private == []


def import_circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of which every one imports the next, and the last the first; empty where there is no such circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def import_graph(package: Path) -> dict[str, set[str]]:
    """Which of its modules every module of a package imports, inside functions and for its types alone too.

    What an ``__init__.py`` imports for types alone it offers under its own name, and loads when somebody asks for it.
    """
    modules, offering = {}, set()
    for path in package.rglob("*.py"):
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = ast.parse(path.read_text(encoding="utf-8"))
        if path.name == "__init__.py":
            offering.add(name)
    found: dict[str, set[str]] = {}
    for name, tree in modules.items():
        wanted = {
            full if (full := f"{module}.{one}") in modules else module
            for _, module, names in imports(tree, types_too=name not in offering)
            for one in names or [""]
        }
        found[name] = wanted & modules.keys() - {name}
    return found


@pytest.mark.parametrize("package", IMPORTED, ids=lambda package: package.name)
def test_no_module_imports_itself_through_others(package: Path):
    graph = import_graph(package)
    assert graph and import_circle(graph) == []


@pytest.mark.parametrize(
    "layers",
    [
        "from plugin.components import build",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from plugin.components import build",
    ],
    ids=["imported", "for its types"],
)
def test_a_circle_through_a_function_is_found(tmp_path: Path, layers: str):
    package = tmp_path / "plugin"
    package.mkdir()
    sources = {
        "__init__": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from plugin.network import Net",
        "components": "import plugin\ndef build():\n    from plugin.network import Net\n    return Net()",
        "network": "from plugin import layers\nclass Net: ...",
        "layers": layers,
    }
    for name, source in sources.items():
        (package / f"{name}.py").write_text(source)
    assert sorted(import_circle(import_graph(package))[:-1]) == ["plugin.components", "plugin.layers", "plugin.network"]
    (package / "layers.py").write_text("import plugin")
    assert import_circle(import_graph(package)) == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_says_what_it_is(package: Path):
    text = (package / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) >= 20, f"{package.name}/README.md says too little"
