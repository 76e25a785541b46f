"""The least that a recipe has to say about a part."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from videopolicy.components.kinds import KINDS, Component
from videopolicy.components.registry import Registry
from videopolicy.describing.options import name_of
from videopolicy.spaces import ActionSpace

_EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    ActionSpace: {"names": ["x", "y"], "low": [-1, -1], "high": [1, 1], "control": "delta_position", "rate": 10}
}
"""Of groups whose options must fit each other."""
_MOST = 64
"""Combinations of parts that are tried."""


def fragment(cls: type[Component], registry: Registry) -> dict[str, Any] | None:
    """The options that have no default, with parts that are as small as they can be.

    Returns:
        A mapping of which the component can be made; None where none was found: what fits, its own checks know alone.
    """
    return next(_fragments(cls, registry, ()), None)


def parts_of_kind(kind: str, registry: Registry) -> list[type[Component]]:
    """What is registered for a kind or one that is derived from it."""
    return [entry.component for entry in registry.entries() if issubclass(entry.component, KINDS[kind])]


def _fragments(cls: type[Component], registry: Registry, around: tuple[type, ...]) -> Iterator[dict[str, Any]]:
    """Valid fragments, the smallest first.

    Args:
        cls: The component.
        registry: Says what its parts may be.
        around: Components that it stands in, which do not stand in it again.
    """
    required = {name: field for name, field in cls.model_fields.items() if field.is_required() and name != "type"}
    values = [list(_values(field, registry, (*around, cls))) for field in required.values()]
    for chosen in itertools.islice(itertools.product(*values), _MOST):
        data = {"type": cls.name(), **dict(zip(required, chosen, strict=True))}
        try:
            cls.model_validate(data, context={"registry": registry})
        except ValidationError:
            continue
        yield data


def _values(field: FieldInfo, registry: Registry, around: tuple[type, ...]) -> Iterator[Any]:
    """What a required option may be, the smallest first."""
    if field.examples:
        yield from field.examples
    else:
        yield from _of_type(field.annotation, field.metadata, field.alias or "", registry, around)


def _of_type(
    annotation: Any, limits: list[Any], name: str, registry: Registry, around: tuple[type, ...]
) -> Iterator[Any]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in KINDS.values():
        found = [
            one
            for part in parts_of_kind(annotation.kind, registry)
            if part not in around and (one := next(_fragments(part, registry, around), None)) is not None
        ]
        yield from sorted(found, key=lambda one: (len(repr(one).split(":")), one["type"]))
    elif annotation in _EXAMPLES:
        yield _EXAMPLES[annotation]
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        needed = {name: field for name, field in annotation.model_fields.items() if field.is_required()}
        chosen = name_of(annotation)
        for values in itertools.product(*(list(_values(field, registry, around)) for field in needed.values())):
            yield {**({"type": chosen} if chosen else {}), **dict(zip(needed, values, strict=True))}
    elif origin in (Union, types.UnionType):
        for one in inner:
            yield from _of_type(one, limits, name, registry, around)
    elif origin is Annotated:
        yield from _of_type(inner[0], [*inner[1:]], name, registry, around)
    elif origin is Literal:
        yield from inner
    elif origin in (tuple, list):
        yield [next(_of_type(one, [], name, registry, around)) for one in inner if one is not Ellipsis]
    elif origin is dict:
        yield {"NAME": next(_of_type(inner[1], [], name, registry, around))}
    elif annotation in (int, float):
        yield next((limit.ge for limit in limits if isinstance(limit, annotated_types.Ge)), 1)
    elif annotation is Path:
        yield "PATH"
    elif annotation is str:
        yield "TEXT"
