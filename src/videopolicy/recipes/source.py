"""Reads recipe files: YAML with the line of every value remembered, one level of ``extends``, and overrides."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from videopolicy.errors import RecipeError, did_you_mean, listing

Location = tuple[str | int, ...]


@dataclass
class Source:
    """Plain data and where each value of it was written.

    Args:
        data: Nested mappings, lists and scalars.
        origins: Where the value at each location stands, as ``file:line`` or the override's text.
    """

    data: Any
    origins: dict[Location, str] = field(default_factory=dict)

    def origin(self, location: Location) -> str:
        """Where the value at this location, or the nearest one around it, was written."""
        for end in range(len(location), -1, -1):
            if location[:end] in self.origins:
                return self.origins[location[:end]]
        return ""


class _Loader(yaml.SafeLoader):
    pass


def _read(path: Path) -> Source:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1)
        hint = (
            f"Did you mean {path.parent / near[0]}?" if near else "Give the path of a recipe such as recipes/NAME.yaml."
        )
        raise RecipeError(f"There is no recipe {path}.", hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The recipe {path} cannot be read: {error}", "Give a readable YAML file.") from None
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        origins: dict[Location, str] = {}
        data = _construct(loader, node, (), path, origins) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(
            f"{path}{line} is not valid YAML: {error.problem or error.context}.", "Correct that line."
        ) from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise RecipeError(f"{path} holds {type(data).__name__}, not a mapping.", "A recipe is a YAML mapping.")
    return Source(data, origins)


def _construct(loader: _Loader, node: yaml.Node, at: Location, path: Path, origins: dict[Location, str]) -> Any:
    origins[at] = f"{path}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if key in result:
                raise yaml.MarkedYAMLError(problem=f"'{key}' stands twice", problem_mark=key_node.start_mark)
            result[key] = _construct(loader, value_node, (*at, key), path, origins)
            origins[(*at, key)] = f"{path}:{key_node.start_mark.line + 1}"
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*at, index), path, origins) for index, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


def _merge(base: Source, top: Source) -> Source:
    """Lay one source over another: mappings are merged, everything else is replaced.

    A component whose ``type`` changes is replaced as a whole, since its options belong to the old type.
    """
    origins = dict(base.origins)

    def lay(under: Any, over: Any, at: Location) -> Any:
        same_type = (
            isinstance(under, dict)
            and isinstance(over, dict)
            and ("type" not in over or over["type"] == under.get("type", over["type"]))
        )
        if not same_type:
            for location in [known for known in origins if known[: len(at)] == at]:
                del origins[location]
            origins.update({known: text for known, text in top.origins.items() if known[: len(at)] == at})
            return over
        merged = dict(under)
        for key, value in over.items():
            inner = (*at, key)
            if key in under:
                merged[key] = lay(under[key], value, inner)
            else:
                merged[key] = value
                origins.update({known: text for known, text in top.origins.items() if known[: len(inner)] == inner})
            origins[inner] = top.origins.get(inner, "")
        return merged

    return Source(lay(base.data, top.data, ()), origins)


def read_recipe(path: Path) -> Source:
    """Read a recipe file and, where it has ``extends``, the one file that it extends.

    Raises:
        RecipeError: A file is missing, is not YAML, or the extended file extends another one.
    """
    source = _read(path)
    parent = source.data.pop("extends", None)
    if parent is None:
        return source
    base = _read(path.parent / str(parent))
    if "extends" in base.data:
        raise RecipeError(
            f"{source.origin(('extends',))}: {parent} itself extends {base.data['extends']}.",
            "A recipe extends one level only: extend the last file, or write the values out.",
        )
    return _merge(base, source)


def override(source: Source, text: str) -> None:
    """Apply one override ``a.b=c`` in place; c is YAML, and a list item is named by its index or its ``name``.

    A list item that is set to null is taken out of the list: ``train.video=null`` leaves a recipe without that stage.

    Raises:
        RecipeError: The text is no assignment, or its path runs through something that has no fields.
    """
    path, equals, value_text = text.removeprefix("--").partition("=")
    if not equals or not path:
        raise RecipeError(f"'{text}' is no override.", "Write overrides as path.to.field=value, such as seed=1.")
    try:
        value = yaml.safe_load(value_text)
    except yaml.YAMLError as error:
        raise RecipeError(f"The value of override '{text}' is not valid YAML: {error}", "Quote it.") from None
    keys = path.split(".")
    at: Location = ()
    node: Any = source.data
    for depth, key in enumerate(keys):
        step: str | int = key
        if isinstance(node, list):
            names = [item.get("name") if isinstance(item, dict) else None for item in node]
            if key in names:
                step = names.index(key)
            elif key.isdigit() and int(key) < len(node):
                step = int(key)
            else:
                known = [str(name) for name in names if name] or [str(i) for i in range(len(node))]
                raise RecipeError(
                    f"Override '{text}': '{'.'.join(keys[:depth])}' has no item '{key}'.{did_you_mean(key, known)}",
                    f"Its items are {listing(known)}.",
                )
        elif not isinstance(node, dict):
            raise RecipeError(
                f"Override '{text}': '{'.'.join(keys[:depth])}' is {node!r} and has no fields.",
                "Shorten the path.",
            )
        at = (*at, step)
        if depth == len(keys) - 1 and isinstance(node, list) and value is None:
            _take_out(source, node, at)
        elif depth == len(keys) - 1:
            node[step] = value
            for written in [written for written in source.origins if written[: len(at)] == at]:
                del source.origins[written]
            source.origins[at] = f"override '{text}'"
        elif isinstance(node, dict) and step not in node:
            source.origins[at] = f"override '{text}'"
            node = node.setdefault(step, {})
        else:
            node = node[step]


def _take_out(source: Source, items: list[Any], at: Location) -> None:
    """Remove a list's item; the origins of those behind it move up."""
    *around, index = at
    del items[int(index)]
    depth, origins = len(around), {}
    for location, text in source.origins.items():
        if location[:depth] == tuple(around) and len(location) > depth and location[depth] >= index:  # type: ignore[operator]
            if location[depth] == index:
                continue
            location = (*around, int(location[depth]) - 1, *location[depth + 1 :])
        origins[location] = text
    source.origins = origins
