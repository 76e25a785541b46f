"""Reads YAML that anybody may have written: plain values with their lines, within limits, and nothing guessed.

Mappings with words as keys, lists, texts, whole and other numbers, truth values and null: there is nothing else in a
recipe. Anchors, aliases and merge keys work; what they amount to when written out is limited, so that ten lines cannot
fill the memory. Dates and numbers to base 60, which YAML 1.1 sees where people mean texts, are errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import Reader

LARGEST_FILE = 16 * 2**20
"""Bytes."""
MOST_VALUES = 100_000
"""Values in a file whose aliases are written out."""
DEEPEST = 100
"""Mappings and lists inside each other."""

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_TEXTS = frozenset({f"{_TAG}str", f"{_TAG}value", _MERGE})  # a value that is `=` or `<<` is a text
_SIMPLE = {
    f"{_TAG}int": ("a whole number", SafeConstructor.construct_yaml_int),
    f"{_TAG}float": ("a number", SafeConstructor.construct_yaml_float),
    f"{_TAG}bool": ("true or false", SafeConstructor.construct_yaml_bool),
    f"{_TAG}null": ("null", SafeConstructor.construct_yaml_null),
}
_CONTROL: re.Pattern[str] = Reader.NON_PRINTABLE


class YamlError(Exception):
    """What is wrong with a text.

    Args:
        line: Counted from 1; 0 where none can be named.
        reason: Without a full stop.
        hint: What to do, one sentence.
        syntax: Whether it is no YAML at all.
    """

    def __init__(self, line: int, reason: str, hint: str, syntax: bool = False) -> None:
        super().__init__(reason)
        self.line, self.reason, self.hint, self.syntax = line, reason, hint, syntax

    def at(self, name: str) -> str:
        """The whole sentence.

        Args:
            name: Of the file or whatever else holds the text.
        """
        place = f"{name}:{self.line}" if self.line else name
        return f"{place} is not valid YAML: {self.reason}." if self.syntax else f"{place}: {self.reason}."


@dataclass(slots=True)
class Place:
    """Where a value was written, and where those inside it were.

    Args:
        text: Such as ``file:line``.
        inner: By key or index.
    """

    text: str
    inner: dict[str | int, Place] = field(default_factory=dict)


def decoded(content: bytes) -> str:
    """The text of a file.

    Raises:
        YamlError: It is not UTF-8.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise YamlError(1, "it is written in UTF-16 and not in UTF-8", "Save the file as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        reason = f"the byte 0x{content[error.start]:02x} is not UTF-8"
        raise YamlError(line, reason, "Save the file as UTF-8.") from None


def read_yaml(text: str, name: str) -> tuple[Any, Place]:
    """Plain values, and where each was written.

    Args:
        text: YAML; an empty one gives None.
        name: Of the file, for the places.

    Raises:
        YamlError: It is no YAML, holds what no recipe can use, or is beyond the limits.
    """
    if found := _CONTROL.search(text):
        reason = f"it holds the control character {found[0]!r}"
        raise YamlError(_line_of(text, found.start()), reason, "Take that character out; an editor may not show it.")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text) from None
    except yaml.YAMLError as error:
        raise YamlError(0, str(error), "Correct it.", syntax=True) from None
    finally:
        loader.dispose()
    if node is None:
        return None, Place(name)
    _ensure_within_limits(node)
    return _Builder(name).value(node)


class _Limits:
    """Part of a loader that stops at nesting that would exhaust the stack of whoever follows it, and at the limit."""

    _depth = _values = 0

    def descend_resolver(self, current_node: Node | None, current_index: Any) -> None:
        self._depth += 1
        self._values += 1
        if self._values > MOST_VALUES and current_node is not None:
            raise _too_many(current_node)
        if self._depth > DEEPEST + 1 and current_node is not None:
            raise _too_deep(current_node)
        super().descend_resolver(current_node, current_index)  # type: ignore[misc]

    def ascend_resolver(self) -> None:
        self._depth -= 1
        super().ascend_resolver()  # type: ignore[misc]


class _PythonLoader(_Limits, yaml.SafeLoader):
    pass


class _CLoader(_Limits, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    pass


# The one in C is ten times as fast; a comparison reads hundreds of recipes.
_Loader: Any = _CLoader if hasattr(yaml, "CSafeLoader") else _PythonLoader


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> YamlError:
    mark = error.problem_mark or error.context_mark
    hint = "Correct that line."
    if mark is not None:
        lines = text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        if "\t" in line[: len(line) - len(line.lstrip())]:
            hint = "Indent that line with blanks: YAML has no tabs there."
    reason = str(error.problem or error.context)
    if reason.startswith("but ") and error.context:
        reason = f"{error.context}, {reason}"
    return YamlError(mark.line + 1 if mark else 0, reason, hint, syntax=True)


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _too_deep(node: Node) -> YamlError:
    return YamlError(
        _line(node), f"more than {DEEPEST} mappings and lists lie inside each other", "Write it with less nesting."
    )


def _too_many(node: Node) -> YamlError:
    reason = f"with its aliases written out this holds more than {MOST_VALUES:,} values"
    return YamlError(_line(node), reason, "Write less: data belong into files of their own.")


def _ensure_within_limits(root: Node) -> None:
    """Count what aliases amount to without writing them out.

    Raises:
        YamlError: They are too many or too deep, or one lies inside what it stands for.
    """
    sizes: dict[int, tuple[int, int]] = {}  # of a node: values, and mappings and lists inside each other
    open_nodes: set[int] = set()

    def measured(node: Node) -> tuple[int, int]:
        known = sizes.get(id(node))
        if known is not None:
            return known
        if isinstance(node, ScalarNode):
            return 1, 0
        if id(node) in open_nodes:
            raise YamlError(_line(node), "an alias lies inside what it stands for", "Write the values out.")
        open_nodes.add(id(node))
        children = node.value if isinstance(node, SequenceNode) else [one for pair in node.value for one in pair]
        values = depth = 0
        for child in children:
            of_child = measured(child)
            values, depth = values + of_child[0], max(depth, of_child[1])
        if values >= MOST_VALUES:
            raise _too_many(node)
        if depth >= DEEPEST:
            raise _too_deep(node)
        open_nodes.discard(id(node))
        sizes[id(node)] = values + 1, depth + 1
        return sizes[id(node)]

    measured(root)


class _Builder(SafeConstructor):
    """Makes values of nodes.

    Args:
        name: Of the file.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def value(self, node: Node) -> tuple[Any, Place]:
        """A node's value, and where it was written."""
        place = Place(f"{self._name}:{_line(node)}")
        if isinstance(node, ScalarNode):
            return self._scalar(node), place
        if node.tag != f"{_TAG}{'map' if isinstance(node, MappingNode) else 'seq'}":
            raise _unknown_tag(node)
        if isinstance(node, SequenceNode):
            items = [self.value(item) for item in node.value]
            place.inner = {index: inner for index, (_, inner) in enumerate(items)}
            return [value for value, _ in items], place
        result: dict[str | int, Any] = {}
        for key, (value_node, line) in self._pairs(node).items():
            result[key], inner = self.value(value_node)
            place.inner[key] = Place(f"{self._name}:{line}", inner.inner)
        return result, place

    def _pairs(self, node: MappingNode) -> dict[str | int, tuple[Node, int]]:
        """Value and line by key: those of merge keys, then the mapping's own, which replace them."""
        merged: dict[str | int, tuple[Node, int]] = {}
        own: dict[str | int, tuple[Node, int]] = {}
        merge_line = 0
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                if merge_line:
                    raise _twice(_line(key_node), "<<", merge_line, "Merge several with <<: [*one, *other].")
                merge_line = _line(key_node)
                merged = self._merged(value_node, merge_line)
                continue
            key = self._key(key_node)
            if key in own:
                raise _twice(_line(key_node), str(key), own[key][1], "Take one of them out.")
            own[key] = (value_node, _line(key_node))
        return {**merged, **own}

    def _merged(self, node: Node, line: int) -> dict[str | int, tuple[Node, int]]:
        """What a merge key brings; of several mappings the first one counts."""
        found: dict[str | int, tuple[Node, int]] = {}
        for one in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(one, MappingNode):
                raise YamlError(line, "<< merges a mapping or a list of mappings", "Write it as <<: *anchor.")
            found = {**self._pairs(one), **found}
        return found

    def _key(self, node: Node) -> str | int:
        if not isinstance(node, ScalarNode):
            kind = "a mapping" if isinstance(node, MappingNode) else "a list"
            raise YamlError(
                _line(node),
                f"{kind} stands where a key is needed",
                "Write the key as a word; a placeholder such as {{ name }} is not filled in: write its value.",
            )
        key = self._scalar(node)
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise YamlError(_line(node), f"the key {node.value!r} is read as {key!r}", "Write it in quotes.")
        return key

    def _scalar(self, node: ScalarNode) -> Any:
        if node.tag in _TEXTS:
            if found := _CONTROL.search(node.value):
                reason = f"a text holds the control character {found[0]!r}"
                raise YamlError(_line(node), reason, "Take it out.")
            return node.value
        shown = repr(node.value if len(node.value) <= 40 else f"{node.value[:40]}...")
        if node.tag == f"{_TAG}timestamp":
            raise YamlError(
                _line(node), f"{shown} is read as a date, and nothing in a recipe is one", "Write it in quotes."
            )
        if node.tag not in _SIMPLE:
            raise _unknown_tag(node)
        what, construct = _SIMPLE[node.tag]
        if ":" in node.value:
            raise YamlError(_line(node), f"{shown} is read as {what} to base 60", "Write it in quotes.")
        try:
            return construct(self, node)
        except (ValueError, LookupError, OverflowError):
            raise YamlError(_line(node), f"{shown} is not {what}", "Write a number, or a text in quotes.") from None


def _twice(line: int, key: str, before: int, hint: str) -> YamlError:
    return YamlError(line, f"'{key}' stands twice, in line {before} and in line {line}", hint, syntax=True)


def _unknown_tag(node: Node) -> YamlError:
    tag = str(node.tag).replace(_TAG, "!!")
    return YamlError(_line(node), f"the tag {tag} is none of a recipe's", "Write the plain value, without a tag.")
