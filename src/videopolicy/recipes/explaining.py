"""What pydantic finds wrong, as sentences with file, line, path, and near names."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from videopolicy.components.kinds import KINDS, BenchmarkComponent
from videopolicy.components.registry import Registry
from videopolicy.errors import PluginError, did_you_mean, listing
from videopolicy.recipes.source import Location, Source, shortened
from videopolicy.spaces import Spaces

_MOST = 20
"""Problems that are reported at once."""
_LETTERS = 2000
"""Of one problem: lists of known names have up to a thousand."""


def explained(error: ValidationError, source: Source, registry: Registry, model: type[BaseModel]) -> list[str]:
    """One sentence a problem.

    Args:
        error: What was raised for the source's data.
        source: The data, and where they were written.
        registry: Where components were looked up.
        model: What the data were to be.
    """
    # A list with a bad item is also reported as too short: that says nothing new.
    every = error.errors()
    around = {d["loc"][:length] for d in every for length in range(len(d["loc"]))}
    stated = [d for d in every if d["type"] != "too_short" or d["loc"] not in around]
    lines = [_explain(details, source, registry, model) for details in stated[:_MOST]]
    return lines + ([f"and {len(stated) - _MOST} more"] if len(stated) > _MOST else [])


def declared_spaces(benchmark: BenchmarkComponent) -> Spaces:
    """What a benchmark's robot sees and does.

    Raises:
        PluginError: The declaration is invalid, which no change of the recipe mends.
    """
    try:
        return benchmark.spaces()
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, d['loc']))}: {d['msg']} (it is {shortened(d['input'])})" for d in error.errors()]
        raise PluginError(
            f"`{type(benchmark).__name__}.spaces` of benchmark '{benchmark.type}' declares an invalid {error.title}:\n"
            + "\n".join(f"  {line}" for line in lines),
            f"Correct it in {inspect.getfile(type(benchmark))}.",
        ) from None


def _explain(details: ErrorDetails, source: Source, registry: Registry, whole: type[BaseModel]) -> str:
    written, model = _walk(details["loc"], source.data, registry, whole)
    path = shortened(".".join(str(step) for step in written), quoted=False)
    text = re.sub(r"^(Value error|Assertion failed), ", "", details["msg"])
    if details["type"] == "extra_forbidden":
        fields = list(model.model_fields) if model else []
        text = f"there is no such field.{did_you_mean(str(details['loc'][-1]), fields)} Known: {listing(fields)}."
    elif details["type"] == "missing":
        text = "this field is required"
    elif not isinstance(details["input"], dict | list | BaseModel) and details["type"] != "value_error":
        text += f" (it is {shortened(details['input'])})"
    text = shortened(text, quoted=False, most=_LETTERS)  # what a part says may repeat a name of any length
    origin = source.origin(written)
    place = f"{origin}: " if origin else ""
    return f"{place}{path}: {text}" if path else f"{text}"


def _walk(
    location: Location, data: Any, registry: Registry, model: type[BaseModel] | None
) -> tuple[Location, type[BaseModel] | None]:
    """Follow a pydantic location through the written data.

    Returns:
        The location without the union tags that pydantic puts in, and the model around its last step.
    """
    written: Location = ()
    node = data
    for depth, step in enumerate(location):
        inside = (isinstance(node, dict) and step in node) or (isinstance(node, list) and step in range(len(node)))
        last = depth == len(location) - 1
        if not inside and not last:
            continue  # a union's tag
        if inside or _is_field(model, step):
            written = (*written, step)
        if last:
            break
        node = node[step]
        field = model.model_fields.get(str(step)) if model else None
        if isinstance(step, str):
            model = _model_of(field.annotation if field else None, node, registry)
    return written, model


def _is_field(model: type[BaseModel] | None, step: str | int) -> bool:
    """Whether a step names a field of the model (a missing one is not in the data)."""
    return model is not None and step in model.model_fields


def _model_of(annotation: Any, node: Any, registry: Registry) -> type[BaseModel] | None:
    """The model that validates ``node``: the component of its type, or the matching member of the annotation."""
    candidates: list[Any] = [annotation]
    models: list[type[BaseModel]] = []
    while candidates:
        candidate = candidates.pop()
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            models.append(candidate)
        elif get_origin(candidate) is not None:
            candidates += get_args(candidate)
    if isinstance(node, list):  # of parts, where one component would do as well
        models = [model for model in models if model not in KINDS.values()]
    name = node.get("type") if isinstance(node, dict) else None
    for model in models:
        if model in KINDS.values() and isinstance(name, str):
            try:
                return registry.get(model.kind, name)  # type: ignore[attr-defined]
            except PluginError:
                return None
        field = model.model_fields.get("type")
        if len(models) == 1 or (field is not None and field.default == name):
            return model
    return None
