"""What a shell offers when a word of a command is completed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MOST = 200
"""Files of a folder that are offered."""


def components(incomplete: str) -> list[str]:
    """Names of installed components."""
    from videopolicy.components.registry import current_registry

    names = {entry.component.name() for entry in current_registry().entries()}
    return sorted(name for name in names if name.startswith(incomplete))


def importers(incomplete: str) -> list[str]:
    """Names of installed importers."""
    from videopolicy.components.registry import current_registry

    return [name for name in current_registry().names("importer") if name.startswith(incomplete)]


def described(incomplete: str) -> list[str]:
    """What can be described: components and their kinds."""
    from videopolicy.components.kinds import KINDS

    return sorted({*components(incomplete), *(kind for kind in KINDS if kind.startswith(incomplete))})


def new_kinds(incomplete: str) -> list[str]:
    """Kinds of which there are templates."""
    from videopolicy.scaffold.writing import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


def recipes(incomplete: str) -> list[str]:
    """Recipes in the folder that the word names so far, and its folders; and those that come with the package."""
    from videopolicy.recipes.shipped import shipped_recipes

    shipped = [one.name for one in shipped_recipes() if one.name.startswith(incomplete)]
    return [*_files(incomplete), *shipped]


def _files(incomplete: str) -> list[str]:
    folder, _, begun = incomplete.rpartition("/")
    place = Path(f"{folder}/" if folder or incomplete.startswith("/") else ".").expanduser()
    before = f"{folder}/" if "/" in incomplete else ""
    try:
        found = sorted(path for path in place.iterdir() if path.name.startswith(begun) and path.name[0] != ".")
    except OSError:
        return []
    offered = [f"{before}{path.name}/" if path.is_dir() else f"{before}{path.name}" for path in found]
    return [one for one in offered if one.endswith((".yaml", ".yml", "/"))][:_MOST]


def checked(incomplete: str) -> list[str]:
    """What can be checked: recipes and components."""
    return [*recipes(incomplete), *components(incomplete)]


RecipeArgument = Annotated[
    Path,
    typer.Argument(
        help="Recipe file, or the name of a recipe that comes with the package.",
        show_default=False,
        autocompletion=recipes,
    ),
]
