"""``vpolicy data export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from videopolicy.console.text import say

if TYPE_CHECKING:
    from videopolicy.components.kinds import DatasetComponent
    from videopolicy.components.registry import Registry
    from videopolicy.recipes.recipe import Recipe

_PLAIN = {"window_stride": 1, "steps_ahead": 0, "action_padding": "mask"}
"""Options that change which windows are seen, and not what was recorded."""


def export_data(path: Path, overrides: list[str], name: str, output: Path, quiet: bool) -> None:
    """Write the data of a recipe in another layout."""
    from videopolicy.console.progress import Reporter
    from videopolicy.recipes.recipe import load_recipe
    from videopolicy.storage.store import Store

    recipe = load_recipe(path, overrides)
    kind = _kind(recipe.registry, name)
    # These need torch: everything that can be found wrong without it has been.
    from videopolicy.data.exporting import export
    from videopolicy.data.preparation import open_data
    from videopolicy.data.remarks import remarks_on
    from videopolicy.errors import DataError

    data = recipe.required_data()
    plain = {option: value for option, value in _PLAIN.items() if option in type(data).model_fields}
    recipe, reporter = recipe.model_copy(update={"data": data.model_copy(update=plain)}), Reporter(quiet)
    dataset = open_data(recipe, Store(), reporter)
    if dataset is None:
        raise DataError(
            f"The demonstrations that {path} asks for are not there yet.", f"Run `vpolicy data collect {path}` first."
        )
    remarks = remarks_on(dataset)
    for remark in remarks:
        reporter.line(f"data: {remark}")
    facts = _facts(recipe, remarks, dataset.fingerprint())
    found = export(dataset, kind, output, facts, reporter)
    splits = ", ".join(f"{count} {split}" for split, count in found.episodes.items())
    say(f"{sum(found.episodes.values())} episodes ({splits}), {found.steps} steps as {kind.type} in {found.folder}")


def _kind(registry: Registry, name: str) -> DatasetComponent:
    """The dataset type that a format names, in full or without its version, which is built by nobody here.

    Raises:
        PluginError: There is none that can be written.
    """
    from videopolicy.components.kinds import DatasetComponent
    from videopolicy.errors import PluginError, did_you_mean, listing

    known: dict[str, type[DatasetComponent]] = {}
    for one in registry.names("dataset"):
        component = registry.get("dataset", one)
        assert issubclass(component, DatasetComponent)
        if component.writer is not DatasetComponent.writer:
            known[one] = component
    chosen = [one for one in known if one == name] or [one for one in known if one.startswith(f"{name}-")]
    if len(chosen) != 1:
        raise PluginError(
            f"No one dataset type that can be written is called '{name}'.{did_you_mean(name, known)}"
            if name
            else "The layout to write is not named.",
            f"Name one with --format: {listing(known)}.",
        )
    return known[chosen[0]].model_construct(type=chosen[0])


def _facts(recipe: Recipe, remarks: tuple[str, ...], content: str) -> dict[str, str]:
    """Where the episodes come from. Those that a recipe has collected are by the experts of its benchmark: programs."""
    from importlib.metadata import version

    data = recipe.required_data()
    scripted = data.demonstrations() is not None
    return {
        **({"expert": "scripted"} if scripted else {}),
        "recorded_by": f"vpolicy data export {version('videopolicy')}",
        "benchmark": recipe.benchmark.type,
        "exported_from": data.type,
        "content": content,
        **({"remarks": "\n".join(remarks)} if remarks else {}),
    }
