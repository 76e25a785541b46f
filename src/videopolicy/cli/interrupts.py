"""Ctrl-C as an end like any other that a user can act on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from videopolicy.errors import VpolicyError


def interruptible(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn Ctrl-C inside a command into a message; the command line's own answer would be a bare "Aborted"."""

    @functools.wraps(command)
    def inner(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            raise VpolicyError(
                "Interrupted. What was finished is kept.", "Run the same command again to go on."
            ) from None

    return inner
