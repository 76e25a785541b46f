"""Paths as users write them, and inputs that are opened only when they are files."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

from videopolicy.errors import VpolicyError

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})(?=/|$)")
_FOLDER = "a folder"
_KINDS = (
    (stat.S_ISDIR, _FOLDER),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class PathError(VpolicyError, ValueError):
    """A path cannot be one on this machine; also a `ValueError`, so that a recipe reports it as its own."""


def expanded(path: str | Path) -> Path:
    """A path whose beginning stands for a folder of this machine, with that folder.

    Args:
        path: ``~`` and ``~user`` are home folders; ``$NAME`` and ``${NAME}`` are variables of the environment. Inside a
            path, and in front of anything but a ``/``, they are characters like any others.

    Raises:
        PathError: There is no such user or variable, or no file can have such a name.
    """
    text = str(path)
    if "\0" in text:
        raise PathError(f"no file can be named {text!r}, which holds a NUL character")
    if found := _VARIABLE.match(text):
        value = os.environ.get(found[1] or found[2])
        if not value:
            raise PathError(f"the path {text} begins with a variable that is not set here: write the folder out")
        text = value + text[found.end() :]
    try:
        whole = Path(text).expanduser()
    except RuntimeError:
        raise PathError(f"the path {text} begins with ~, and there is no such home folder: write it out") from None
    if any(len(os.fsencode(part)) > 255 for part in whole.parts):
        raise PathError(f"the path {text[:40]}... holds a name of more than 255 characters, which no file can have")
    return whole


def expanded_paths(value: Any) -> Any:
    """A value whose paths are `expanded`, alone or in a list; anything else as it is."""
    if isinstance(value, Path):
        return expanded(value)
    if type(value) in (tuple, list):
        return type(value)(map(expanded_paths, value)) if any(isinstance(one, Path) for one in value) else value
    return value


def input_paths(value: Any) -> Any:
    """The same for an option: what it names will be read. For ``field_validator("*")``.

    Raises:
        PathError: There is no such path, or what is there is neither a file nor a folder.
    """
    value = expanded_paths(value)
    for one in value if type(value) in (tuple, list) else (value,):
        if isinstance(one, Path) and kind_of(one) not in ("", _FOLDER):
            raise PathError(f"{one} is {kind_of(one)}: give a file or a folder")
    return value


def kind_of(path: Path) -> str:
    """What is there, where it is neither a regular file nor nothing, such as ``a named pipe``; else empty."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""
    return next((name for is_one, name in _KINDS if is_one(mode)), "")


def ensure_regular(path: Path, error: type[VpolicyError], give: str) -> None:
    """Check that opening a path opens a file: a pipe would be waited for without end, a device never ends.

    Args:
        path: It may be missing, which opening it says.
        error: What is raised.
        give: What to do, a sentence.
    """
    if kind := kind_of(path):
        raise error(f"{path} is {kind}, not a file.", give)


def read_regular(path: Path, limit: int, error: type[VpolicyError], give: str) -> bytes:
    """The content of a small file that somebody else may have written.

    Args:
        path: The file.
        limit: Most bytes.
        error: What is raised where it is no regular file or a larger one.
        give: What to do, a sentence.

    Raises:
        OSError: It is missing or cannot be read.
    """
    ensure_regular(path, error, give)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise error(f"{path} has more than {limit / 2**20:g} MiB, too many to be read as a whole.", give)
    return content
