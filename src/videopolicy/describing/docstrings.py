"""What Google-style docstrings say: what something is, and what each of its options means."""

from __future__ import annotations

import inspect
import re

_SECTION = re.compile(r"(?:Args|Raises|Returns|Yields|Attributes|Options):")
_ELSEWHERE = re.compile(r"See `\w+` for the options\.")
_ENTRY = re.compile(r" {4}(\w+(?:, \w+)*): +(.*)")


def paragraphs(cls: type) -> list[str]:
    """What a class is: the paragraphs of its own docstring before and after its sections, each on one line."""
    blocks = re.split(r"\n\s*\n", _own(cls))
    found = [_joined(block) for block in blocks if block.strip() and not _SECTION.match(block)]
    return [one for one in found if not _ELSEWHERE.fullmatch(one)]


def summary(cls: type) -> str:
    """The first paragraph; empty where there is none."""
    return next(iter(paragraphs(cls)), "")


def argument(cls: type, name: str) -> str:
    """What a class, or else the nearest of its bases, says of one of its arguments; empty where none does."""
    return next((said[name] for base in cls.__mro__ if name in (said := _arguments(_own(base)))), "")


def _own(cls: type) -> str:
    return inspect.cleandoc(cls.__dict__.get("__doc__") or "")


def _arguments(text: str) -> dict[str, str]:
    """The entries of the section of arguments; several names may share one."""
    _, _, section = text.partition("Args:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        if entry := _ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return {name: _joined(said) for name, said in found.items()}


def _joined(text: str) -> str:
    """On one line, with code marked as Markdown has it."""
    return " ".join(text.replace("``", "`").split())
