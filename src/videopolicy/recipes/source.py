"""Reads recipe files: YAML with the line of every value remembered, one level of ``extends``, and overrides."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videopolicy.errors import RecipeError, did_you_mean, listing
from videopolicy.paths import PathError, expanded, read_regular
from videopolicy.recipes.shipped import located, shipped_file, shipped_recipes
from videopolicy.storage.plain_yaml import DEEPEST, LARGEST_FILE, Place, YamlError, decoded, read_yaml

Location = tuple[str | int, ...]


@dataclass
class Source:
    """Plain data and where each value of it was written.

    Args:
        data: Nested mappings, lists and scalars.
        place: Where the values stand, as ``file:line`` or the override's text.
    """

    data: Any
    place: Place = field(default_factory=lambda: Place(""))

    def origin(self, location: Location) -> str:
        """Where the value at this location, or the nearest one around it, was written."""
        place = self.place
        for step in location:
            if step not in place.inner:
                break
            place = place.inner[step]
        return place.text


def _read(path: Path) -> Source:
    give = "Give the path of a recipe, or a name that `vpolicy recipes` lists."
    try:
        content = read_regular(path, LARGEST_FILE, RecipeError, give)
    except FileNotFoundError:
        known = (
            [str(file) for file in path.parent.glob("*.y*ml")]
            if path.suffix
            else [one.name for one in shipped_recipes()]
        )
        near = difflib.get_close_matches(str(path), known, n=1)
        hint = f"Did you mean {near[0]}?" if near else give
        if not near and shipped_file(Path(path.stem)):
            hint = f"Did you mean {path.stem}, which comes with the package? Names have no folder and no suffix."
        raise RecipeError(f"There is no recipe {path}.", hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"The recipe {path} cannot be read: {reason}", "Give a readable YAML file.") from None
    try:
        data, place = read_yaml(decoded(content), str(path))
    except YamlError as error:
        raise RecipeError(error.at(str(path)), error.hint) from None
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise RecipeError(f"{place.text} holds {type(data).__name__}, not a mapping.", "A recipe is a YAML mapping.")
    return Source(data, place)


def _merge(base: Source, top: Source) -> Source:
    """Lay one source over another: mappings are merged, everything else is replaced.

    A component whose ``type`` changes is replaced as a whole, since its options belong to the old type.
    """

    def lay(under: Any, over: Any, below: Place, above: Place) -> tuple[Any, Place]:
        same_type = (
            isinstance(under, dict)
            and isinstance(over, dict)
            and ("type" not in over or over["type"] == under.get("type", over["type"]))
        )
        if not same_type:
            return over, above
        merged, places = dict(under), dict(below.inner)
        for key, value in over.items():
            place = above.inner[key]
            if key in under:
                merged[key], laid = lay(under[key], value, below.inner[key], place)
                places[key] = Place(place.text, laid.inner)
            else:
                merged[key], places[key] = value, place
        return merged, Place(below.text, places)

    return Source(*lay(base.data, top.data, base.place, top.place))


def read_recipe(path: Path) -> Source:
    """Read a recipe file and, where it has ``extends``, the one file that it extends.

    Raises:
        RecipeError: A file is missing, is not YAML, or the extended file extends another one.
    """
    source = _read(path)
    parent = source.data.pop("extends", None)
    if parent is None:
        return source
    where = source.origin(("extends",))
    if not isinstance(parent, str) or not parent:
        raise RecipeError(f"{where}: extends is {shortened(parent)}, not the path of a recipe.", "Name one file.")
    try:
        base = _read(located(expanded(parent), path.parent))
    except PathError as error:
        raise RecipeError(f"{where}: extends: {error}.", "Name a file, relative to this one.") from None
    if "extends" in base.data:
        raise RecipeError(
            f"{where}: {parent} itself extends {base.data['extends']}.",
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
    keys = path.split(".")
    shown = shortened(text, quoted=False)
    name = f"override '{shown}'"
    if not equals or not all(keys):
        raise RecipeError(f"'{shown}' is no override.", "Write overrides as path.to.field=value, such as seed=1.")
    if len(keys) > DEEPEST:
        raise RecipeError(f"The path of {name} has more than {DEEPEST} steps.", "Shorten the path.")
    try:
        value, _ = read_yaml(value_text, name)
    except YamlError as error:
        problem = f"is not valid YAML: {error.reason}" if error.syntax else f"cannot be used: {error.reason}"
        raise RecipeError(
            f"The value of {name} {problem}.", f"{error.hint} The shell takes one pair of quotes away."
        ) from None
    node: Any = source.data
    place = source.place
    for depth, key in enumerate(keys):
        step: str | int = key
        if isinstance(node, list):
            names = [item.get("name") if isinstance(item, dict) else None for item in node]
            if key in names:
                step = names.index(key)
            elif key.isdecimal() and len(key) < 9 and int(key) < len(node):
                step = int(key)
            else:
                known = [str(known) for known in names if known] or [str(i) for i in range(len(node))]
                raise RecipeError(
                    f"Override '{shown}': '{'.'.join(keys[:depth])}' has no item '{key}'.{did_you_mean(key, known)}",
                    f"Its items are {listing(known)}.",
                )
        elif not isinstance(node, dict):
            raise RecipeError(
                f"Override '{shown}': '{'.'.join(keys[:depth])}' is {shortened(node)} and has no fields.",
                "Shorten the path.",
            )
        if depth == len(keys) - 1 and isinstance(node, list) and value is None:
            gone = int(step)
            del node[gone]  # those behind it move up
            place.inner = {int(i) - (int(i) > gone): inner for i, inner in place.inner.items() if i != gone}
        elif depth == len(keys) - 1:
            node[step] = value
            place.inner[step] = Place(name)
        elif isinstance(node, dict) and step not in node:
            node = node.setdefault(step, {})
            place = place.inner.setdefault(step, Place(name))
        else:
            node = node[step]
            place = place.inner.setdefault(step, Place(place.text))


def shortened(value: Any, quoted: bool = True, most: int = 120) -> str:
    """A value as a message shows it, cut where it has more characters than ``most``."""
    text = repr(value) if quoted else str(value)
    return text if len(text) <= most else f"{text[: most - 20]}... ({len(text):,} characters)"
