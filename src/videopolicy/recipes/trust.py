"""Recipes from elsewhere: what they say is read; the Python files that they name run only where somebody wants it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import videopolicy
from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.components.plugins import file_plugin
from videopolicy.components.registry import Registry, current_registry
from videopolicy.errors import RecipeError, VpolicyError, listing
from videopolicy.paths import PathError, expanded

_OURS = Path(videopolicy.__file__).parent / "testing"
"""The toys that come with the package are installed, not received."""
_TOYS = "videopolicy.testing."
"""What recipes write before the name of one of them, wherever the package is installed."""


def with_plugin_files(registry: Registry, files: Any, recipe: Path, trust: bool) -> tuple[Registry, list[Path]]:
    """A registry with the Python files that a recipe names, and the files.

    Args:
        registry: The installed plugins.
        files: The recipe's ``plugins``; toys may be named as modules, such as ``videopolicy.testing.toys``.
        recipe: Its file, to which they are relative.
        trust: Whether they may be run.

    Raises:
        RecipeError: They are no paths, or not trusted.
        PluginError: One cannot be used.
    """
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise RecipeError(f"{recipe}: plugins: this is no list of Python files.", "Write plugins: [./parts.py].")
    try:
        paths = [_place(file, recipe.parent) for file in files]
    except PathError as error:
        raise RecipeError(f"{recipe}: plugins: {error}.", "Name Python files.") from None
    if not trust and (foreign := received(paths)):
        raise RecipeError(
            f"{recipe} names Python files, which were not run: {listing([str(path)[:200] for path in foreign], 4)}.",
            "Read them, and add --trust if you trust where you have them from.",
        )
    return registry.extended([file_plugin(path) for path in paths]), paths


def received(files: Iterable[Path]) -> list[Path]:
    """Those Python files of a recipe that are not the package's own."""
    return [file for file in files if not file.resolve().is_relative_to(_OURS)]


def _place(file: str, folder: Path) -> Path:
    """Where a plugin file lies that is named relative to a folder, or as one of the toys."""
    toy = file.removeprefix(_TOYS)
    if toy != file and toy.isidentifier():
        return _OURS / f"{toy}.py"
    path = folder / expanded(file)
    return path.parent.resolve() / path.name  # the Hub's cache links to files without a suffix


def recorded_benchmark(recipe: Mapping[str, Any], file: Path, trust: bool) -> BenchmarkComponent:
    """The benchmark that a run's recipe configures.

    Args:
        recipe: The resolved recipe as plain data.
        file: Where it was read.
        trust: Whether the Python files that it names may be run. A benchmark that is installed can be had without.

    Raises:
        VpolicyError: It cannot be had here; the message says why.
    """
    section = recipe.get("benchmark")
    name = section.get("type") if isinstance(section, dict) else None
    if not isinstance(name, str):
        raise RecipeError(f"{file} names no benchmark.", "Restore the file.")
    registry = current_registry()
    try:
        registry, _ = with_plugin_files(registry, recipe.get("plugins") or [], file, trust)
    except VpolicyError:
        if name not in registry.names("benchmark"):
            raise
    try:
        found = registry.get("benchmark", name).model_validate(section, context={"registry": registry})
    except ValidationError as error:
        raise RecipeError(
            f"{file}: benchmark: {error.error_count()} of its options are unknown here.",
            "Install the versions that provenance.json names.",
        ) from None
    assert isinstance(found, BenchmarkComponent)
    return found
