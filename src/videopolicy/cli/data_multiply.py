"""``vpolicy data multiply``."""

from __future__ import annotations

from pathlib import Path

from videopolicy.console.text import say


def multiply_data(path: Path, overrides: list[str], spec: Path, output: Path, quiet: bool) -> None:
    """Make demonstrations out of those of a recipe."""
    from videopolicy.components.kinds import MultiplierComponent
    from videopolicy.console.progress import Reporter
    from videopolicy.errors import RecipeError, listing
    from videopolicy.outcomes.intervals import wilson
    from videopolicy.recipes.recipe import load_recipe
    from videopolicy.recipes.single import component_from
    from videopolicy.recipes.source import read_recipe
    from videopolicy.storage.store import Store

    recipe = load_recipe(path, overrides)
    source = read_recipe(spec)
    if not isinstance(source.data.get("type"), str):
        known = listing(recipe.registry.names("multiplier")) or "none is installed"
        raise RecipeError(f"{spec} does not say its 'type'.", f"Name what multiplies: {known}.")
    multiplier = component_from(source, MultiplierComponent, recipe.registry)
    # This needs torch: everything that can be found wrong without it has been.
    from videopolicy.data.multiplying import multiply

    outcomes = multiply(recipe, multiplier, output, Store(), Reporter(quiet))
    for task, one in outcomes.items():
        low, high = wilson(one.successes, one.attempts)
        rate = one.successes / one.attempts
        say(f"{task}: {one.successes} of {one.attempts} attempts succeeded ({rate:.2f}, 95 % {low:.2f} to {high:.2f})")
    say(f"{sum(one.kept for one in outcomes.values())} episodes of {len(outcomes)} tasks in {output}")
