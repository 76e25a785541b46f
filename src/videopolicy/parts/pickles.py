"""Unpickling that calls nothing but what is permitted.

A pickle is a program: it names functions, and unpickling calls them. Whoever reads foreign files says which names may
be called, and what stands for all others.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any


class PermittedFunction:
    """A permitted function that can be called and not be altered: a pickle may set attributes of what it names."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


def restricted_unpickler(
    permitted: Mapping[tuple[str, str], Any], other: Callable[[str], Any]
) -> type[pickle.Unpickler]:
    """A class like ``pickle.Unpickler`` that imports nothing.

    Args:
        permitted: What a module's name stands for, by module and name. What can be called is called without its
            keyword arguments and cannot be altered.
        other: Given the dotted name of everything else; returns what stands for it, or raises an error.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            # Exact names only: a dotted one would reach through a permitted object to something else.
            if (module, name) not in permitted:
                return other(f"{module}.{name}")
            found = permitted[module, name]
            return PermittedFunction(found) if callable(found) else found

    return Unpickler
