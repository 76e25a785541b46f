"""Reads pickles without running them.

A pickle is a program: it names functions, and unpickling calls them. Here every name but those that put tensors and
plain containers together stands for an inert class, which swallows whatever the program does to it.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import _utils


class _InertType(type):
    """Makes a class its own only instance, so that a program may call, subclass, fill or build what it likes."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        return cls

    def __setitem__(cls, *_: Any) -> None:
        pass


class Inert(metaclass=_InertType):
    """Stands for a class or function that was not imported, and for every object of it."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return cls

    @staticmethod
    def _ignore(*_: Any) -> None:
        pass

    __setstate__ = append = extend = add = _ignore


class _Function:
    """A permitted function that can be called and not be altered: a pickle may set attributes of what it names."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


_REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
_PERMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    **{("torch._utils", name): getattr(_utils, name) for name in _REBUILD},
    ("torch", "Size"): torch.Size,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,  # its older name, which the protocol that torch uses writes
}
_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}


def inert_pickle(met: set[str]) -> Any:
    """Something that ``torch.load`` accepts as ``pickle_module`` and that imports nothing.

    Args:
        met: Gets the dotted name of every class and function that was made inert.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            # Exact names only: a dotted one would reach through a permitted object to something else.
            if (call := _PERMITTED.get((module, name))) is not None:
                return _Function(call)
            if module == "torch" and name in _DTYPES:
                return _DTYPES[name]
            met.add(f"{module}.{name}")
            return Inert

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(__name__=__name__, Unpickler=Unpickler, load=load)
