"""Reads pickles without running them.

A pickle is a program: it names functions, and unpickling calls them. Here every name but those that put tensors and
plain containers together stands for an inert class, which swallows whatever the program does to it.
"""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import torch
from torch import _utils

from videopolicy.parts.pickles import restricted_unpickler


class _InertType(type):
    """Makes a class its own only instance, so that a program may call, subclass, fill or build what it likes."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        return cls

    def __setitem__(cls, *_: Any) -> None:
        pass


class Inert(metaclass=_InertType):
    """Stands for a class or function that was not imported, and for every object of it."""

    stands_for = ""
    """The dotted name of that class or function."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return cls

    @staticmethod
    def _ignore(*_: Any) -> None:
        pass

    __setstate__ = append = extend = add = _ignore


class _Bytes:
    """Stands for the class of storages without a type, of which torch asks the size of one element."""

    __slots__ = ()

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8


def _parameter(data: Any, requires_grad: bool, hooks: Any, state: Any) -> Any:
    """A parameter without the attributes that somebody has given it."""
    return _utils._rebuild_parameter(data, requires_grad, hooks)


_REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
_PERMITTED: dict[tuple[str, str], Any] = {
    **{("torch._utils", name): getattr(_utils, name) for name in _REBUILD},
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch.storage", "UntypedStorage"): _Bytes(),
    ("torch", "Size"): torch.Size,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,  # its older name, which the protocol that torch uses writes
    **{("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
}


def inert_pickle(met: set[str]) -> Any:
    """Something that ``torch.load`` accepts as ``pickle_module`` and that imports nothing.

    Args:
        met: Gets the dotted name of every class and function that was made inert.
    """

    def inert(name: str) -> type[Inert]:
        met.add(name)

        class Named(Inert):
            stands_for = name

        return Named

    unpickler = restricted_unpickler(_PERMITTED, inert)

    def load(file: Any, **options: Any) -> Any:
        return unpickler(file, **options).load()

    return SimpleNamespace(__name__=__name__, Unpickler=unpickler, load=load)
