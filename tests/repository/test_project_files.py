"""The lock, the linter's settings, the scripts and the documents agree with the packages that are there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = [
    ROOT,
    *sorted(p.parent for p in (*ROOT.glob("benchmarks/*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml"))),
]
DOCUMENTS = [
    path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")) if path.is_file()
]


def metadata(project: Path) -> dict:
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))


def locked() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_lock_gives_exact_versions_of_other_peoples_packages():
    ours = {metadata(project)["project"]["name"] for project in PROJECTS}
    for requirement in locked():
        assert requirement.url is None
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert requirement.name not in ours


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_satisfies_every_dependency(python: str):
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    found: dict[str, str] = {}
    for requirement in locked():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in found, f"{requirement.name} is locked twice for Python {python}"
            found[requirement.name] = str(requirement.specifier).removeprefix("==")
    ours = {metadata(project)["project"]["name"] for project in PROJECTS}
    for project in PROJECTS:
        table = metadata(project)["project"]
        extras = table["optional-dependencies"] if project == ROOT else {"dev": [], "docs": []}
        for requirement in map(Requirement, [*table["dependencies"], *extras["dev"], *extras["docs"]]):
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if name not in ours:
                assert requirement.specifier.contains(found[name]), f"{requirement} of {project.name}: {found[name]}"


def imported(project: Path) -> set[str]:
    """Distributions whose modules a package's own ones import; simulators run in environments of their own."""
    providers = {**packages_distributions(), "rerun": ["rerun-sdk"]}
    found: set[str] = set()
    for file in project.glob("src/**/*.py"):
        if "simulator" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            roots = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names
            found |= {canonicalize_name(one) for root in roots for one in providers.get(root, [root])[:1]}
    return found


@pytest.mark.parametrize("project", [one for one in PROJECTS if one.name != "worker"], ids=lambda one: one.name)
def test_a_package_depends_on_what_it_imports(project: Path):
    table = metadata(project)["project"]
    declared = [
        *table["dependencies"],
        *(one for extra in table.get("optional-dependencies", {}).values() for one in extra),
    ]
    names = {canonicalize_name(Requirement(text).name) for text in declared}
    assert imported(project) - names <= {table["name"], "pydantic-core"}  # which pydantic pins
    ours = {metadata(one)["project"]["name"] for one in PROJECTS}
    for requirement in map(Requirement, declared):
        if requirement.name in ours:
            assert str(requirement.specifier) == "<0.2,>=0.1", requirement


def test_import_linter_knows_every_package():
    table = metadata(ROOT)["tool"]["importlinter"]
    there = {
        path.name for project in PROJECTS for path in (project / "src").iterdir() if (path / "__init__.py").is_file()
    }
    assert set(table["root_packages"]) == there
    plugins = there - {"videopolicy", "vpolicy_worker"}
    independent = next(contract for contract in table["contracts"] if contract["type"] == "independence")
    assert set(independent["modules"]) == plugins


def test_documented_commands_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert {"help", "demo", "test", "check", "docs", "setup", "lock", "clean"} <= targets
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        used = set(re.findall(r"(?:^|`|&& )make ([a-z]+)", text, flags=re.MULTILINE))
        assert used <= targets, f"{document.name} names make targets that do not exist"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme and "make test" in readme


def test_bytecode_is_kept_whatever_the_shell_says():
    """Without it every process of a test compiles torch and its friends again."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["make", "--silent", "--eval", "variables: ; @env", "variables"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "PATH=" in done.stdout and "PYTHONDONTWRITEBYTECODE" not in done.stdout


def shell(program: str, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **variables}
    command = ["sh", "-c", f". '{ROOT}/scripts/common.sh'\n{program}"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_ordinary_user_is_told_the_exact_command():
    done = shell("is_debian() { true; }\nid() { echo 1000; }\nneed_packages 'No picture.' libegl1 libgl1\necho went on")
    assert done.returncode == 2
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends libegl1 libgl1" in done.stderr
    assert "went on" not in done.stdout


def test_missing_packages_are_named_elsewhere_than_on_debian():
    done = shell("is_debian() { false; }\nneed_packages 'No picture.' libegl1")
    assert done.returncode == 2
    assert "libegl1" in done.stderr and "apt-get" not in done.stderr


def test_old_python_is_refused_with_a_way_out():
    done = shell("python_is_new_enough() { false; }\nfind_python")
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed" in done.stderr
    done = shell("find_python", PYTHON="no-such-python")
    assert done.returncode == 2
    assert "PYTHON=no-such-python" in done.stderr


def test_fingerprint_follows_the_files(tmp_path: Path):
    file = tmp_path / "requirements.lock"
    prints = []
    for text in ("torch==2.7.0\n", "torch==2.7.0\n", "torch==2.8.0\n"):
        file.write_text(text, encoding="utf-8")
        prints.append(shell(f"fingerprint '{file}'").stdout)
    assert prints[0] == prints[1] != prints[2]


def test_mirror_known_to_pip_alone_is_handed_to_uv(tmp_path: Path):
    listing = "printf '%s\\n' \"global.index-url='https://mirror.example/python'\" \"global.cert='/certs/ours.pem'\""
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\n{listing}\n", encoding="utf-8")
    python.chmod(0o755)
    program = f'PATH="{tmp_path}:$PATH"\nuse_pip_settings\necho "$UV_DEFAULT_INDEX $SSL_CERT_FILE"'
    assert shell(program, tmp_path).stdout.split() == ["https://mirror.example/python", "/certs/ours.pem"]
    kept = shell(program, tmp_path, UV_DEFAULT_INDEX="https://chosen.example/", SSL_CERT_FILE="/certs/chosen.pem")
    assert kept.stdout.split() == ["https://chosen.example/", "/certs/chosen.pem"]
