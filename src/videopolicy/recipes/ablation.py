"""An ablation: a recipe, and rows that each change a few of its values (``docs/recipes.md``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from videopolicy.errors import RecipeError
from videopolicy.paths import expanded, input_paths
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.recipes.shipped import located
from videopolicy.recipes.source import Source, read_recipe


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    _paths = field_validator("*")(input_paths)


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
        elsewhere: Assignments in place of ``overrides`` on another recipe than the file's, for parts whose published
            size fits the published recipe alone. None: the same.
        published: The paper's number, where it has this row.
    """

    name: str = Field(min_length=1)
    base: Path | None = None
    overrides: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] | None = None
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


class LoadedAblation(NamedTuple):
    """A file of an ablation with the recipes of its rows.

    Args:
        ablation: The file.
        variants: The rows, in its order.
        misfits: Name of every row that cannot be put on another base than the file's, and why not.
    """

    ablation: Ablation
    variants: tuple[Variant, ...]
    misfits: dict[str, str]

    @property
    def left_out(self) -> list[str]:
        """One sentence for every row that does not fit."""
        return [f"Left out: {name}, which does not fit this base: {why}" for name, why in self.misfits.items()]


def is_ablation(source: Source) -> bool:
    """Whether a YAML file is an ablation and no recipe."""
    return "rows" in source.data


def load_ablation(path: Path, base: Path | None = None, overrides: list[str] | tuple[str, ...] = ()) -> LoadedAblation:
    """Read an ablation and check the recipe of every row.

    On another base rows may name what it does not have, such as layers of a larger network: these are left out.

    Args:
        path: YAML file, or the name of an ablation that comes with the package.
        base: Another recipe than the file's own, such as a smaller one.
        overrides: Applied to every row, behind its own.

    Raises:
        RecipeError: Of the file; or of its rows, each with its name: of any without ``base``, of all with it.
    """
    path = located(Path(path))
    source = read_recipe(path)
    try:
        ablation = Ablation.model_validate(source.data)
    except ValidationError as error:
        lines = [f"{source.origin(d['loc'])}: {'.'.join(map(str, d['loc']))}: {d['msg']}" for d in error.errors()]
        raise RecipeError(
            f"{path} is not a valid ablation:\n" + "\n".join(f"  {line}" for line in lines),
            "An ablation has base, overrides, source, metric and rows of name, base, overrides, elsewhere, published.",
        ) from None
    own = path.parent / (ablation.base or "")
    moved = base is not None and located(expanded(base)).resolve() != own.resolve()
    prefix = path.stem if base is None else f"{path.stem}-{Path(base).stem}"
    variants: list[Variant] = []
    problems: dict[str, RecipeError] = {}
    for row in ablation.rows:
        try:
            if base is not None and row.base is not None:
                raise RecipeError(
                    "it has a recipe of its own, which cannot be put on another base.",
                    "Leave --base out; change values of all rows with overrides such as eval.episodes=10.",
                )
            name = f"name={prefix}-{_folder_name(row.name)}"
            recipe = base or path.parent / (row.base or ablation.base or "")
            changed = row.elsewhere if moved and row.elsewhere is not None else row.overrides
            changes = [name, *ablation.overrides, *changed, *overrides]
            variants.append(Variant(row, load_recipe(recipe, changes)))
        except RecipeError as error:
            problems[row.name] = error
    if problems and (base is None or not variants):
        lines = [f"{path}: row '{name}': {error.message}" for name, error in problems.items()]
        raise RecipeError("\n".join(lines), next(reversed(problems.values())).hint)
    return LoadedAblation(ablation, tuple(variants), {name: _reason(error) for name, error in problems.items()})


def _reason(error: RecipeError) -> str:
    """What is wrong with a row, in one line: a recipe's first problem stands below the name of its file."""
    lines = [line.strip() for line in error.message.splitlines()]
    return lines[min(1, len(lines) - 1)]


def _folder_name(row: str) -> str:
    """A row's name as a part of a folder's name."""
    return re.sub(r"[^a-z0-9.]+", "-", row.lower()).strip("-")
