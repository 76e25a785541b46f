"""``vpolicy check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopolicy.console.text import say


def check(
    what: Annotated[
        str, typer.Argument(help="A recipe or ablation file, or the name of a component.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="For a recipe, values to change; for a component, its options.")
    ] = None,
) -> None:
    """Check a recipe or an ablation without running it, or run the conformance tests on an installed component."""
    if Path(what).suffix in (".yaml", ".yml") or Path(what).exists():
        _check_recipe(Path(what), overrides or [])
    else:
        _check_component(what, overrides or [])


def _check_recipe(path: Path, overrides: list[str]) -> None:
    from videopolicy.recipes.ablation import is_ablation
    from videopolicy.recipes.recipe import load_recipe
    from videopolicy.recipes.source import read_recipe

    if is_ablation(read_recipe(path)):
        _check_ablation(path, overrides)
        return
    recipe = load_recipe(path, overrides)
    window = recipe.policy.window()
    stages = ", ".join(f"{stage.name} ({stage.target}, {stage.steps} steps)" for stage in recipe.train)
    tasks = recipe.benchmark.tasks()
    say(f"{path} is valid.")
    say(f"  benchmark  {recipe.benchmark.type}: {len(tasks)} tasks, {recipe.eval.episodes} episodes each")
    say(f"  data       {recipe.data.type if recipe.data else 'none: the weights come with their scaling'}")
    parts = [part.type for part in recipe.components() if part not in (recipe.benchmark, recipe.data)]
    say(f"  policy     {' + '.join(parts)}")
    say(f"  window     frames {list(window.observed)}, future {list(window.future)}, {window.horizon} actions")
    say(f"  train      {stages}")


def _check_ablation(path: Path, overrides: list[str]) -> None:
    """All rows of an ablation; ``base=RECIPE`` among the overrides puts them on another recipe."""
    from videopolicy.recipes.ablation import load_ablation

    bases = [text.removeprefix("base=") for text in overrides if text.startswith("base=")]
    rest = [text for text in overrides if not text.startswith("base=")]
    loaded = load_ablation(path, Path(bases[-1]) if bases else None, rest)
    ablation, variants = loaded.ablation, loaded.variants
    recipe = bases[-1] if bases else ablation.base or "recipes of their own"
    say(f"{path} is valid: {len(variants)} rows on {recipe} ({ablation.source}).")
    for variant in variants:
        stages = ", ".join(f"{stage.name} ({stage.steps} steps)" for stage in variant.recipe.train)
        number = None if bases else variant.row.published  # measured with the paper's own recipe
        say(f"  {variant.row.name}: {stages}" + (f"; {ablation.metric} {number.value:g} published" if number else ""))
    for remark in loaded.left_out:
        say(f"  {remark}")


def _check_component(name: str, options: list[str]) -> None:
    import yaml

    from videopolicy.components.kinds import KINDS
    from videopolicy.components.registry import current_registry
    from videopolicy.errors import PluginError, did_you_mean, listing
    from videopolicy.recipes.source import Source, override

    registry = current_registry()
    kinds = [kind for kind in KINDS if name in registry.names(kind)]
    if not kinds:
        known = [known for kind in KINDS for known in registry.names(kind)]
        raise PluginError(
            f"There is no recipe and no component named '{name}'.{did_you_mean(name, known)} "
            f"Installed: {listing(known)}.",
            "Give a recipe file or one of these names.",
        )
    source = Source({})
    for text in options:
        override(source, text)
    from videopolicy.testing import run_contract

    for kind in kinds:
        say(f"{kind} '{name}' {yaml.safe_dump(source.data, default_flow_style=True).strip()}")
        code = run_contract(kind, name, source.data)
        if code:
            raise typer.Exit(code)
