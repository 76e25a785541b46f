"""``vpolicy data render``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from videopolicy.console.text import say

if TYPE_CHECKING:
    from videopolicy.components.kinds import BenchmarkComponent
    from videopolicy.components.registry import Registry

_SECTION = "benchmark"


def render_data(path: Path, overrides: list[str], otherwise: list[str], output: Path, quiet: bool) -> None:
    """Render the recorded states of a recipe's data as another configuration of its benchmark shows them."""
    from videopolicy.console.progress import Reporter
    from videopolicy.recipes.recipe import load_recipe
    from videopolicy.storage.store import Store

    recipe = load_recipe(path, overrides)
    target = _target(path, overrides, otherwise, recipe.registry)
    # This needs torch: everything that can be found wrong without it has been.
    from videopolicy.data.rendering import render

    rendered = render(recipe, target, output, Store(), Reporter(quiet))
    for task, episodes in rendered.items():
        say(f"{task}: {episodes} episodes, all of them solved when replayed")
    say(f"{sum(rendered.values())} episodes of {len(rendered)} tasks in {output}")


def _target(path: Path, overrides: list[str], otherwise: list[str], registry: Registry) -> BenchmarkComponent:
    """The recipe's benchmark with what is to be seen otherwise. The rest of the recipe need not fit it.

    Raises:
        RecipeError: Something else is to be changed, or it is no valid benchmark.
    """
    from videopolicy.components.kinds import BenchmarkComponent
    from videopolicy.errors import RecipeError
    from videopolicy.recipes.shipped import located
    from videopolicy.recipes.single import component_from
    from videopolicy.recipes.source import Source, override, read_recipe, shortened
    from videopolicy.storage.plain_yaml import Place

    for text in otherwise:
        if not text.removeprefix("--").startswith(f"{_SECTION}."):
            raise RecipeError(
                f"--as {shortened(text, quoted=False)} is nothing of the benchmark.",
                "Write what is to look otherwise as benchmark.FIELD=value, and what data these are without --as.",
            )
    source = read_recipe(located(path))
    for text in [*overrides, *otherwise]:
        override(source, text)
    place = source.place.inner.get(_SECTION, Place(str(path)))
    return component_from(Source(source.data[_SECTION], place), BenchmarkComponent, registry)
