"""One component from its options alone, outside a recipe."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from videopolicy.components.kinds import Component
from videopolicy.components.registry import Registry
from videopolicy.errors import RecipeError
from videopolicy.recipes.explaining import explained
from videopolicy.recipes.source import Source

C = TypeVar("C", bound=Component)


def component_from(source: Source, kind: type[C], registry: Registry) -> C:
    """A component from its options.

    Args:
        source: A mapping of its options, with its name as ``type``.
        kind: What it has to be, such as `BenchmarkComponent`.
        registry: Where names are looked up.

    Raises:
        PluginError: There is none of this name.
        RecipeError: Options are wrong; the message names near ones.
    """
    name = str(source.data.get("type"))
    cls = registry.get(kind.kind, name)
    try:
        found = cls.model_validate(source.data, context={"registry": registry})
    except ValidationError as error:
        problems = "; ".join(explained(error, source, registry, cls))
        raise RecipeError(f"These options do not fit {kind.kind} '{name}': {problems}", "Correct them.") from None
    assert isinstance(found, kind)
    return found
