"""What Markdown pages show: blocks of code, quoted files, commands."""

from __future__ import annotations

import re
from typing import Any

from typer.main import get_command

from videopolicy.cli.main import app

FENCES = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
QUOTE = re.compile(r"<!-- the same as (\S+) -->\n```\w*\n(.*?)```\n", re.DOTALL)
"""A file's path from the page, and the block that is to be equal to it."""


def named_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words behind ``vpolicy`` name, the whole one where they name none, and the other words."""
    command = get_command(app)
    while words and (inside := getattr(command, "commands", {}).get(words[0])):
        command, words = inside, words[1:]
    return command, words


def options(command: Any) -> set[str]:
    """All names of a command's options."""
    return {option for parameter in command.params for option in parameter.opts}
