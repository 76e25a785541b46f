"""Verbs whose paths mean the same everywhere: ``~`` is the home folder, whether or not the shell has filled it in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import typer

from videopolicy.paths import expanded_paths


class Verbs(typer.Typer):
    """A group of commands that are given every path `expanded`."""

    def command(self, *arguments: Any, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a command; see ``typer.Typer.command``."""
        register = super().command(*arguments, **options)

        def inner(command: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(command)
            def called(**values: Any) -> Any:
                return command(**{name: expanded_paths(value) for name, value in values.items()})

            register(called)
            return command

        return inner
