"""An ablation: a recipe, and rows that each change a few of its values (``docs/recipes.md``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from videopolicy.errors import RecipeError
from videopolicy.recipe import Recipe, load_recipe
from videopolicy.recipe_source import Source, read_recipe


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedValue(_Section):
    """What a paper gives for a row.

    Args:
        value: The number.
        episodes: All episodes behind it, where the paper says so.
    """

    value: float
    episodes: int | None = Field(None, ge=1)


class Row(_Section):
    """One variant.

    Args:
        name: As the paper calls it.
        base: Recipe of this row alone, where parts differ by more than a few values; relative to the file.
        overrides: Assignments such as ``train.video.steps=100``, applied to the base in order.
        published: The paper's number, where it has this row.
    """

    name: str = Field(min_length=1)
    base: Path | None = None
    overrides: tuple[str, ...] = ()
    published: PublishedValue | None = None


class Ablation(_Section):
    """The file.

    Args:
        base: Recipe that the rows change, relative to the file; None where every row names its own.
        overrides: Assignments for every row, applied before its own.
        source: Paper and table.
        metric: What ``published`` gives.
        rows: The variants, in the paper's order.
    """

    base: Path | None = None
    overrides: tuple[str, ...] = ()
    source: str
    metric: str = "success"
    rows: tuple[Row, ...] = Field(min_length=1)

    @field_validator("rows")
    @classmethod
    def _different_names(cls, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        folders = [_folder_name(row.name) for row in rows]
        twice = [row.name for row, name in zip(rows, folders, strict=True) if folders.count(name) > 1]
        if twice:
            raise ValueError(f"these names make the same run folder: {', '.join(map(repr, twice))}")
        return rows

    @model_validator(mode="after")
    def _every_row_has_a_recipe(self) -> Ablation:
        without = [row.name for row in self.rows if row.base is None]
        if self.base is None and without:
            raise ValueError(f"base is missing, which row {without[0]!r} changes")
        return self


@dataclass(frozen=True)
class Variant:
    """A row and its recipe, completed and checked."""

    row: Row
    recipe: Recipe


def is_ablation(source: Source) -> bool:
    """Whether a YAML file is an ablation and no recipe."""
    return "rows" in source.data


def load_ablation(
    path: Path, base: Path | None = None, overrides: list[str] | tuple[str, ...] = ()
) -> tuple[Ablation, tuple[Variant, ...]]:
    """Read an ablation and check the recipe of every row.

    Args:
        path: YAML file.
        base: Another recipe than the file's own, such as a smaller one.
        overrides: Applied to every row, behind its own.

    Raises:
        RecipeError: Of the file, or of its rows, each with its name; or a row has a recipe of its own and ``base``
            names another.
    """
    path = Path(path)
    source = read_recipe(path)
    try:
        ablation = Ablation.model_validate(source.data)
    except ValidationError as error:
        lines = [f"{source.origin(d['loc'])}: {'.'.join(map(str, d['loc']))}: {d['msg']}" for d in error.errors()]
        raise RecipeError(
            f"{path} is not a valid ablation:\n" + "\n".join(f"  {line}" for line in lines),
            "An ablation has base, overrides, source, metric and rows of name, base, overrides and published.",
        ) from None
    own = [row.name for row in ablation.rows if row.base is not None]
    if base is not None and own:
        raise RecipeError(
            f"{path}: row '{own[0]}' has a recipe of its own, which cannot be put on another base.",
            "Leave --base out; change values of all rows with overrides such as eval.episodes=10.",
        )
    prefix = path.stem if base is None else f"{path.stem}-{Path(base).stem}"
    variants, problems, hint = [], [], ""
    for row in ablation.rows:
        try:
            name = f"name={prefix}-{_folder_name(row.name)}"
            recipe = base or path.parent / (row.base or ablation.base or "")
            changes = [name, *ablation.overrides, *row.overrides, *overrides]
            variants.append(Variant(row, load_recipe(recipe, changes)))
        except RecipeError as error:
            problems.append(f"{path}: row '{row.name}': {error.message}")
            hint = error.hint
    if problems:
        raise RecipeError("\n".join(problems), hint)
    return ablation, tuple(variants)


def _folder_name(row: str) -> str:
    """A row's name as a part of a folder's name."""
    return re.sub(r"[^a-z0-9.]+", "-", row.lower()).strip("-")
