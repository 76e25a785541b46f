"""What code computes, as a hash of its sources: comments, docstrings and layout stay out of it."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType

DECIDING = frozenset({".c", ".cpp", ".csv", ".cu", ".h", ".json", ".npy", ".npz", ".toml", ".txt", ".yaml", ".yml"})
"""Endings of the files of a package, besides ``.py``, that may decide what it computes."""
_BESIDE_THE_POINT = frozenset({"published.yaml"})  # numbers that are only shown


def package_code(module: ModuleType, distribution: Distribution | None) -> str:
    """Says which code a package is: the version of what was installed, a hash of sources that can be edited in place.

    Args:
        module: A module of the package; the sources are those of the outermost package around it.
        distribution: What it was installed from, if that is known.

    Returns:
        Name and version, or name and hash.
    """
    if version := version_of(module, distribution):
        return version
    outermost = _outermost(module)
    file = Path(outermost.__file__ or "")
    files = package_files(file.parent) if hasattr(outermost, "__path__") else with_neighbours(file)
    return f"{outermost.__name__} {code_hash(files)}"


def version_of(module: ModuleType, distribution: Distribution | None) -> str:
    """Name and version of what a module was installed from; empty where that says nothing about its code."""
    file = Path(_outermost(module).__file__ or "")
    return f"{distribution.name} {distribution.version}" if distribution and _installed(distribution, file) else ""


def _outermost(module: ModuleType) -> ModuleType:
    """The outermost package with a file of its own around a module; folders shared by several packages have none."""
    parts = module.__name__.split(".")
    around = (sys.modules.get(".".join(parts[:count])) for count in range(1, len(parts)))
    return next((package for package in around if package is not None and package.__file__), module)


def _installed(distribution: Distribution, file: Path) -> bool:
    """Whether an installer has copied a file to its place, and noted that; an editable install has not."""
    try:
        place = file.resolve().relative_to(Path(str(distribution.locate_file(""))).resolve()).as_posix()
    except ValueError:
        return False
    return any(str(noted) == place for noted in distribution.files or ())


def package_files(folder: Path) -> dict[str, Path]:
    """The files of a package that may decide what it computes, by their path in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        deciding = path.suffix == ".py" or (path.suffix in DECIDING and path.name not in _BESIDE_THE_POINT)
        if deciding and not any(part.startswith((".", "__pycache__")) for part in name.parts) and path.is_file():
            found[name.as_posix()] = path
    return found


def with_neighbours(path: Path) -> dict[str, Path]:
    """A file, and what it imports from its own folder, directly or not, by their path in that folder."""
    found: dict[str, Path] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file.name in found:
            continue
        found[file.name] = file
        for name in sorted(_imported(file)):
            module, package = path.parent / f"{name}.py", path.parent / name
            if module.is_file():
                waiting.append(module)
            elif (package / "__init__.py").is_file():
                found |= {f"{name}/{inner}": one for inner, one in package_files(package).items()}
    return found


def _imported(path: Path) -> set[str]:
    """First parts of the absolute names that a file imports."""
    tree = _parsed(path.read_bytes())
    names: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def code_hash(files: Mapping[str, Path]) -> str:
    """Sixteen hexadecimal digits that identify what files compute.

    Args:
        files: By names that do not depend on where they lie. Python is hashed by its meaning, anything else by content.
    """
    found = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        tree = _parsed(content) if path.suffix == ".py" else None
        what = content if tree is None else _meaning(tree).encode("utf-8", "surrogatepass")
        found.update(f"{name}\0{len(what)}\0".encode() + what)
    return found.hexdigest()[:16]


def _parsed(content: bytes) -> ast.Module | None:
    """The syntax tree; None for what is no Python of this version, which is then hashed as it stands."""
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError):
        return None


def _meaning(tree: ast.Module) -> str:
    """A syntax tree as text, without positions and without statements that are only a string, such as docstrings.

    `ast.dump` would do, but is slower, and what it prints of empty fields depends on the version of Python.
    """
    found: list[str] = []
    waiting: list[object] = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, ast.AST):
            found.append(type(value).__name__)
            for name in value._fields:
                inner = getattr(value, name, None)
                if inner is not None and inner != []:
                    found.append(name)
                    waiting.append(inner)
        elif isinstance(value, list):
            kept = [one for one in value if not _is_text(one)]
            found.append(str(len(kept)))
            waiting += kept
        else:
            found.append(repr(value))
    return "\n".join(found)


def _is_text(statement: object) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def distribution_of(name: str) -> Distribution | None:
    """The installed distribution of a name; None where there is none."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None
