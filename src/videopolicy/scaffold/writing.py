"""Writes a new part from the templates."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from videopolicy.components.registry import Registry
from videopolicy.errors import StorageError
from videopolicy.scaffold.names import Names, ensure_bound_once, ensure_usable
from videopolicy.storage.files import storage_errors, write_text

if TYPE_CHECKING:
    from jinja2 import Environment, Template

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class _Kind:
    """What differs between packages of different kinds.

    Args:
        called: What such a part is called in a sentence.
        modules: Modules beside the component, by name, and what is in them.
        dependencies: What they import besides videopolicy.
        commands: What its README shows.
    """

    called: str
    modules: dict[str, str]
    dependencies: tuple[str, ...] = ("pydantic>=2.10", "torch>=2.7")
    commands: tuple[str, ...] = ("vpolicy run recipe.yaml",)


_KINDS = {
    "backbone": _Kind("A video model", {"model.py": "the network"}),
    "extractor": _Kind("A feature extractor", {"model.py": "the network"}),
    "decoder": _Kind("An action decoder", {"model.py": "the network, its loss and its denoising loop"}),
    "policy": _Kind("A policy", {"model.py": "the network, its loss and its actions"}),
    "dataset": _Kind(
        "A dataset",
        {"episodes.py": "what reads the files"},
        ("numpy>=2.0", "pydantic>=2.10", "torch>=2.7"),
        ("vpolicy run recipe.yaml         # with your files in the folder `episodes`",),
    ),
    "benchmark": _Kind(
        "A benchmark",
        {"simulator.py": "the simulator, which runs in a process of its own"},
        ("numpy>=2.0", "pydantic>=2.10", "vpolicy-worker"),
    ),
    "importer": _Kind(
        "An importer of published weights",
        {},
        ("torch>=2.7",),
        ("vpolicy import {name} FILE -o weights", "vpolicy run recipe.yaml"),
    ),
}
KINDS = tuple(_KINDS)
"""The kinds of which there are templates."""


def write_package(names: Names, folder: Path, registry: Registry) -> Path:
    """Write a package into a folder of its own.

    Args:
        names: Of the part.
        folder: Where the package's folder is to lie.
        registry: Says which names are taken.

    Returns:
        The package's folder.

    Raises:
        PluginError: The name cannot be given.
        StorageError: The folder is not empty, or cannot be written.
    """
    ensure_usable(names, registry, single=False)
    source = Path("src") / names.package
    templates = {
        Path("pyproject.toml"): "package/pyproject.toml",
        Path("README.md"): "package/README.md",
        Path("recipe.yaml"): f"{names.kind}/recipe.yaml",
        source / "__init__.py": f"{names.kind}/component.py",
        **{source / module: f"{names.kind}/{module}" for module in _KINDS[names.kind].modules},
        source / "py.typed": "package/py.typed",
        Path("tests") / f"test_{names.identifier}.py": f"{names.kind}/test.py",
    }
    texts = {path: _template(template).render(_values(names)) for path, template in templates.items()}
    ensure_bound_once(names, texts[source / "__init__.py"])
    with _new_folder(folder / names.distribution) as place:
        for path, text in texts.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(_ended(text), encoding="utf-8")
    return folder / names.distribution


def write_file(names: Names, folder: Path, registry: Registry) -> Path:
    """Write a single file for a recipe's ``plugins``.

    Args:
        names: Of the part.
        folder: Where it is to lie.
        registry: Says which names are taken.

    Returns:
        The file.

    Raises:
        PluginError: The name cannot be given.
        StorageError: The file is there already, or cannot be written.
    """
    ensure_usable(names, registry, single=True)
    file = folder / f"{names.identifier}.py"
    if file.exists() or file.is_symlink():
        raise StorageError(f"{file} is there already.", "Choose another name or folder.")
    modules = [*_KINDS[names.kind].modules, "component.py"]
    bodies = [_body(_template(f"{names.kind}/{module}"), names).strip() for module in modules]
    imports = _template(f"{names.kind}/file.py").render(_values(names)).strip()
    text = imports + ("\n\n\n" if bodies[0].startswith("class") else "\n\n") + "\n\n\n".join(bodies)
    ensure_bound_once(names, text)
    write_text(file, _ended(text))
    return file


def _values(names: Names, single: bool = False) -> dict[str, object]:
    kind = _KINDS[names.kind]
    return {
        "kind": names.kind,
        "name": names.name,
        "identifier": names.identifier,
        "cls": names.cls,
        "distribution": names.distribution,
        "package": names.package,
        "file": f"{names.identifier}.py",
        "single": single,
        "called": kind.called,
        "modules": kind.modules,
        "commands": [command.format(name=names.name) for command in kind.commands],
        "dependencies": sorted([*kind.dependencies, f"videopolicy>={version('videopolicy')}"]),
    }


@lru_cache(maxsize=1)
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # these are programs
    )


def _template(name: str) -> Template:
    return _templates().get_template(f"{name}.jinja")


def _body(template: Template, names: Names) -> str:
    """What a module holds between its imports and its hook, as a single file needs it."""
    return "".join(template.blocks["body"](template.new_context(_values(names, single=True))))


def _ended(text: str) -> str:
    return f"{text.strip()}\n" if text.strip() else ""


@contextmanager
def _new_folder(place: Path) -> Iterator[Path]:
    """A folder to write to that takes its place as a whole when the block ends, and is gone after an error.

    Raises:
        StorageError: Something is in its place already, or it cannot be written.
    """
    if place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
        raise StorageError(f"{place} is there already and not empty.", "Choose another name or folder.")
    with storage_errors(place):
        part = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            yield part
            part.chmod(0o755)  # what is made by mkdtemp is for its owner alone
            part.replace(place)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
