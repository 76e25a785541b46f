"""What policy servers and their clients send each other: msgpack with arrays as openpi writes them.

Layout: openpi, ``packages/openpi-client/src/openpi_client/msgpack_numpy.py``. An array is a mapping of the keys
``__ndarray__``, ``data``, ``dtype`` and ``shape``, a number with a type one of ``__npgeneric__``, ``data`` and
``dtype``; these keys are bytes. Nothing is ever unpickled: arrays hold numbers or truth values and nothing else.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
import numpy as np

_TYPE = re.compile(r"[<>|=]?[biuf][1248]")
"""Numbers and truth values; objects, structures and complex numbers are none."""
_LONGEST = 2**16
"""Entries of one list or mapping: room for them is made before they are read."""
_ENTRIES = 2**18
"""Entries of all lists and mappings of a message."""


class MalformedMessageError(Exception):
    """What has arrived is no message."""


def pack(message: Any) -> bytes:
    """Encode plain data and numpy arrays.

    Raises:
        TypeError: Something else is in it, such as an array of objects.
    """
    packed: bytes = msgpack.packb(message, default=_encoded)
    return packed


def unpack(data: bytes) -> Any:
    """Decode a message; its arrays share its memory and cannot be written.

    Raises:
        MalformedMessageError: It is none.
    """
    entries = 0

    def counted(container: Any) -> Any:
        nonlocal entries
        entries += 1 + len(container)
        if entries > _ENTRIES:
            raise ValueError("it has more entries than any message needs")
        return container

    try:
        return msgpack.unpackb(
            data,
            object_hook=lambda found: _decoded(counted(found)),
            list_hook=counted,
            max_array_len=_LONGEST,
            max_map_len=_LONGEST,
        )
    except Exception as error:  # bytes from outside can fail in every way, and all of them mean the same
        raise MalformedMessageError(f"It cannot be decoded: {type(error).__name__}: {error}") from error


def _encoded(value: Any) -> dict[bytes, Any]:
    if isinstance(value, np.ndarray | np.generic) and _TYPE.fullmatch(value.dtype.str):
        if isinstance(value, np.ndarray):
            return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} {getattr(value, 'dtype', '')} cannot be sent".replace("  ", " "))


def _decoded(found: dict[Any, Any]) -> Any:
    if b"__ndarray__" in found:
        shape, data = found[b"shape"], found[b"data"]
        if not all(type(side) is int and 0 <= side < 2**31 for side in shape):
            raise ValueError(f"an array of shape {shape}")
        dtype = _dtype(found)
        if math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"an array of shape {shape} and type {dtype} in {len(data)} bytes")
        array = np.frombuffer(data, dtype).reshape(shape)
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
    if b"__npgeneric__" in found:
        return _dtype(found).type(found[b"data"])
    return found


def _dtype(found: dict[Any, Any]) -> np.dtype[Any]:
    name = found[b"dtype"]
    name = name.decode() if isinstance(name, bytes) else name
    if not (isinstance(name, str) and _TYPE.fullmatch(name)):
        raise ValueError(f"an array of type {name!r:.40}")
    return np.dtype(name)
