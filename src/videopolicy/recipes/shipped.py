"""The recipes that come with the package, and what a recipe's name on a command line means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import videopolicy


@dataclass(frozen=True)
class Shipped:
    """A recipe or an ablation that comes with the package.

    Args:
        name: What stands for its path on a command line; that of an ablation begins with ``ablations/``.
        path: The file.
    """

    name: str
    path: Path

    @property
    def summary(self) -> str:
        """The first sentence of the comment that the file begins with."""
        comment = re.match(r"(?:#.*\n)*", self.path.read_text(encoding="utf-8"))
        text = " ".join(line.lstrip("# ") for line in comment[0].splitlines()) if comment else ""
        first = re.match(r"(.+?[.:])(?:\s+[A-Z]|$)", text)
        return (first[1].rstrip(":") if first else text).rstrip(".")


def shipped_folder() -> Path:
    """Where they lie: in the installed package, or at the top of a checkout."""
    package = Path(videopolicy.__file__).parent
    inside = package / "shipped_recipes"
    return inside if inside.is_dir() else package.parents[1] / "recipes"


def shipped_recipes() -> list[Shipped]:
    """All recipes, then all ablations, each by name."""
    folder = shipped_folder()
    files = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("ablations/*.yaml"))]
    return [Shipped(file.relative_to(folder).with_suffix("").as_posix(), file) for file in files]


def shipped_file(name: Path) -> Path | None:
    """The recipe that comes with the package and has this name; None where there is none."""
    if not name.name or name.suffix or name.is_absolute() or ".." in name.parts:
        return None
    file = shipped_folder() / name.with_suffix(".yaml")
    return file if file.is_file() else None


def located(recipe: Path, folder: Path = Path()) -> Path:
    """The file that is meant by a path, or by the name of a recipe that comes with the package.

    Args:
        recipe: A file goes before a name.
        folder: To which the path is relative.

    Returns:
        The path in that folder where it is not such a name.
    """
    path = folder / recipe
    return path if path.is_file() else shipped_file(recipe) or path
