"""``vpolicy check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videopolicy.cli import completing
from videopolicy.console.text import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from videopolicy.components.registry import Registry


def check(
    what: Annotated[
        str,
        typer.Argument(
            help="A recipe or ablation, a Python file, or the name of a component.",
            show_default=False,
            autocompletion=completing.checked,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="For a recipe, values to change; for a component, its options; for a Python file, also names of the "
            "components to check."
        ),
    ] = None,
) -> None:
    """Check a recipe or an ablation without running it, or run the conformance tests on components."""
    from videopolicy.paths import expanded, kind_of
    from videopolicy.recipes.shipped import located

    path = located(expanded(what))
    if path.suffix == ".py":
        _check_file(path, overrides or [])
    elif Path(what).suffix in (".yaml", ".yml") or (not _is_component(what) and (path.is_file() or kind_of(path))):
        _check_recipe(path, overrides or [])
    else:
        _check_components(what, overrides or [])


def _is_component(name: str) -> bool:
    """Whether a component has this name: a file or folder that is called like it, such as its own, is not meant."""
    from videopolicy.components.registry import current_registry

    return any(entry.component.name() == name for entry in current_registry().entries())


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
    without = "none: the weights come with their scaling" if recipe.train else "none: the policy has no weights"
    say(f"  data       {recipe.data.type if recipe.data else without}")
    parts = [part.type for part in recipe.components() if part.kind not in ("benchmark", "dataset")]
    say(f"  policy     {' + '.join(parts)}")
    say(f"  window     frames {list(window.observed)}, future {list(window.future)}, {window.horizon} actions")
    say(f"  train      {stages or 'nothing'}")
    for stage in recipe.train:
        if isinstance(stage.data, tuple):
            mixed = ", ".join(f"{part.name} {part.ratio:g}" for part in stage.data)
            say(f"  mixture    of {stage.name}: {mixed}")
        elif stage.data is not None:
            say(f"  data       of {stage.name}: {stage.data.type}")
    from videopolicy.data.missing import missing
    from videopolicy.storage.store import Store

    found = missing(recipe, Store())
    if found:
        say("Not on this machine:")
    for line in (line for one in found for line in one.text.splitlines()):
        say(f"  {line}")


def _check_ablation(path: Path, overrides: list[str]) -> None:
    """All rows of an ablation; ``base=RECIPE`` among the overrides puts them on another recipe."""
    from videopolicy.paths import expanded
    from videopolicy.recipes.ablation import load_ablation

    bases = [expanded(text.removeprefix("base=")) for text in overrides if text.startswith("base=")]
    rest = [text for text in overrides if not text.startswith("base=")]
    loaded = load_ablation(path, bases[-1] if bases else None, rest)
    ablation, variants = loaded.ablation, loaded.variants
    recipe = bases[-1] if bases else ablation.base or "recipes of their own"
    say(f"{path} is valid: {len(variants)} rows on {recipe} ({ablation.source}).")
    for variant in variants:
        stages = ", ".join(f"{stage.name} ({stage.steps} steps)" for stage in variant.recipe.train)
        number = None if bases else variant.row.published  # measured with the paper's own recipe
        say(f"  {variant.row.name}: {stages}" + (f"; {ablation.metric} {number.value:g} published" if number else ""))
    for remark in loaded.left_out:
        say(f"  {remark}")


def _check_file(path: Path, words: list[str]) -> None:
    """The components that a Python file provides, or those of them that are named."""
    from videopolicy.components.plugins import file_plugin
    from videopolicy.components.registry import current_registry
    from videopolicy.errors import PluginError, did_you_mean, listing

    plugin = file_plugin(path)
    registry = current_registry().extended([plugin])
    found = {component.name(): component.kind for component in plugin.components}
    names = [word for word in words if "=" not in word]
    for name in names:
        if name not in found:
            raise PluginError(
                f"{path} has no component named '{name}'.{did_you_mean(name, found)}", f"It has {listing(found)}."
            )
    options = [word for word in words if "=" in word]
    _run_contracts([(found[name], name) for name in names or found], options, registry)


def _check_components(name: str, options: list[str]) -> None:
    from videopolicy.components.kinds import KINDS
    from videopolicy.components.registry import current_registry
    from videopolicy.errors import PluginError, did_you_mean, listing

    registry = current_registry()
    kinds = [kind for kind in KINDS if name in registry.names(kind)]
    if not kinds:
        known = [known for kind in KINDS for known in registry.names(kind)]
        raise PluginError(
            f"There is no recipe and no component named '{name}'.{did_you_mean(name, known)} "
            f"Installed: {listing(known)}.",
            "Give a recipe file or one of these names.",
        )
    _run_contracts([(kind, name) for kind in kinds], options, registry)


def _run_contracts(components: Sequence[tuple[str, str]], options: list[str], registry: Registry) -> None:
    """Check components, given by kind and name, each against its contract."""
    import yaml

    from videopolicy.recipes.source import Source, override

    source = Source({})
    for text in options:
        override(source, text)
    from videopolicy.testing import run_contract

    worst = 0
    for kind, name in components:
        say(f"{kind} '{name}' {yaml.safe_dump(source.data, default_flow_style=True).strip()}")
        worst = worst or run_contract(kind, name, source.data, registry)
    if worst:
        raise typer.Exit(worst)
