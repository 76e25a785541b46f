"""The options of a part, in words."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from videopolicy.components.kinds import KINDS, Component, WhenActing
from videopolicy.describing.docstrings import argument

_KINDS = {"text": "a text encoder"}
"""What a part of a kind is called, where that is not its kind's name."""
_WORDS: dict[Any, str] = {type(None): "null", Path: "path", dict: "mapping", Any: "any value"}


@dataclass(frozen=True)
class Option:
    """One option.

    Args:
        name: As recipes write it.
        words: Its type with its bounds, in words.
        default: As a recipe would write it; None where it must be given.
        meaning: What the docstring says.
        when_acting: Whether training does not depend on it.
        kinds: Kinds of the parts that it takes.
        groups: Groups of further options that it takes.
    """

    name: str
    words: str
    default: str | None
    meaning: str
    when_acting: bool
    kinds: tuple[str, ...]
    groups: tuple[type[BaseModel], ...]


def options_of(model: type[BaseModel]) -> list[Option]:
    """The options of a component or of a group of options; its name is none."""
    return [
        Option(
            name=name,
            words=_words(field.annotation, field.metadata),
            default=_default(field),
            meaning=field.description or argument(model, name),
            when_acting=any(isinstance(mark, WhenActing) for mark in field.metadata),
            kinds=tuple(kind for kind, base in KINDS.items() if base in _classes(field.annotation)),
            groups=tuple(cls for cls in _classes(field.annotation) if cls not in KINDS.values()),
        )
        for name, field in model.model_fields.items()
        if not (name == "type" and get_origin(field.annotation) is Literal)
    ]


def _default(field: FieldInfo) -> str | None:
    if field.default_factory is not None and field.default_factory_takes_validated_data:
        return "by other options"
    return None if field.is_required() else written(field.get_default(call_default_factory=True))


def name_of(model: type[BaseModel]) -> str:
    """The name by which a recipe chooses a group of options; empty where there is nothing to choose."""
    field = model.model_fields.get("type")
    values = get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
    return str(values[0]) if len(values) == 1 else ""


def written(value: Any) -> str:
    """A value as a recipe writes it, on one line."""
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10_000, sort_keys=False)
    return text.strip().removesuffix("\n...")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        said = value.model_dump(mode="json", include=value.model_fields_set - {"type"})
        return {"type": value.type, **said} if isinstance(value, Component) or name_of(type(value)) else said  # type: ignore[attr-defined]
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _classes(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _classes(inner)


def _words(annotation: Any, limits: Sequence[Any] = ()) -> str:
    """A type in words.

    Args:
        annotation: The type.
        limits: What pydantic has found of its bounds.
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        nested = [mark for part in inner[1:] for mark in (part.metadata if isinstance(part, FieldInfo) else [part])]
        return _words(inner[0], [*nested, *limits])
    if origin in (Union, types.UnionType):
        return _either([word for one in inner for word in _alternatives(one, limits)])
    return _unlimited(annotation) + _bounds(limits)


def _alternatives(annotation: Any, limits: Sequence[Any]) -> list[str]:
    """Members of a union of which one may be a choice itself."""
    if get_origin(annotation) is Literal:
        return [f"`{written(value)}`" for value in get_args(annotation)]
    return [_words(annotation, () if annotation is type(None) else limits)]


def _unlimited(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _either(_alternatives(annotation, ()))
    if origin in (tuple, list, set, frozenset):
        every = [_words(one) for one in inner if one is not Ellipsis]
        fixed = origin is tuple and len(every) == len(inner)
        return f"[{', '.join(every)}]" if fixed else f"list of {every[0]}"
    if origin is dict:
        return f"mapping of {_words(inner[0])} to {_words(inner[1])}"
    if annotation in KINDS.values():
        return _KINDS.get(annotation.kind) or f"{'an' if annotation.kind[0] in 'aeiou' else 'a'} {annotation.kind}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"`{name_of(annotation)}`" if name_of(annotation) else "options below"
    return _WORDS.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _bounds(limits: Sequence[Any]) -> str:
    """Bounds of a value or of its length, as words that follow its type."""
    found = ""
    for limit in limits:
        match limit:
            case annotated_types.Ge(ge=low):
                found += f" from {low}"
            case annotated_types.Gt(gt=low):
                found += f" above {low}"
            case annotated_types.Le(le=high):
                found += f" to {high}"
            case annotated_types.Lt(lt=high):
                found += f" below {high}"
            case annotated_types.MultipleOf(multiple_of=step):
                found += f" in steps of {step}"
            case annotated_types.MinLen(min_length=1):
                found += ", not empty"
            case annotated_types.MinLen(min_length=least):
                found += f", {least} or more long"
            case annotated_types.MaxLen(max_length=most):
                found += f", at most {most} long"
    return found
