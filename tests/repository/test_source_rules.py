"""Rules that every source file keeps: what the core may name, how large it is, and what must not be in the tree."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from videopolicy.components.plugins import installed_plugins

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "src" / "videopolicy"
PACKAGES = sorted(
    path.parent for path in (*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("benchmarks/*/pyproject.toml"))
)

MODULE_LINES = 400
# Methods, datasets and simulators that need not be installed to be forbidden in the core.
WELL_KNOWN = (
    *("aloha", "calvin", "diffusion-policy", "libero", "maniskill", "metaworld", "mujoco", "openvla", "pusht"),
    *("pybullet", "rlbench", "robocasa", "robomimic", "robosuite", "sawyer", "stable-video", "svd", "uva"),
    *("video-former", "video-policy", "vpp"),
)

ORDINARY = {"image"}
"""Names of components that are words of everyday language."""


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


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module or ""


# Besides the package itself: modules of tools that parts share, none of which runs anything.
_TOOLS = ("components", "errors", "levels", "parts", "testing", "weights")
PUBLIC = {f"videopolicy.{module}" for module in _TOOLS}


def test_plugins_import_only_the_public_api():
    sources = [path for package in PACKAGES for path in sorted((package / "src").rglob("*.py"))]
    private = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in sources
        for line, module in imported_modules(path)
        if module.startswith("videopolicy.") and ".".join(module.split(".")[:2]) not in PUBLIC
    ]
    assert private == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_says_what_it_is(package: Path):
    text = (package / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) >= 20, f"{package.name}/README.md says too little"
