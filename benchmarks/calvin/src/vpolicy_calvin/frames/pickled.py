"""Reads what ``numpy.save`` has pickled, without running it.

CALVIN's annotations are pickled, and hold nothing but containers, strings, numbers and arrays; a file that names
anything else is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from videopolicy import DataError
from videopolicy.parts.files import system_reason
from videopolicy.parts.pickles import restricted_unpickler


class _RefusedError(Exception):
    pass


_ARRAY_TYPE = object()


def _empty_array(kind: Any, shape: Any, dtype: Any) -> np.ndarray:
    if kind is not _ARRAY_TYPE:
        raise _RefusedError("a subclass of numpy's array")
    return np.ndarray(shape, dtype)


def _number(dtype: np.dtype, *content: bytes) -> Any:
    if dtype.hasobject:
        raise _RefusedError("a number that is an object")
    return np.frombuffer(content[0], dtype, count=1)[0]


_PERMITTED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _number for core in ("core", "_core")},
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): _ARRAY_TYPE,
}


def _refuse(name: str) -> NoReturn:
    raise _RefusedError(name)


_Unpickler = restricted_unpickler(_PERMITTED, _refuse)


def read_pickled(path: Path) -> Any:
    """The one object in a file that ``numpy.save`` wrote with ``allow_pickle``.

    Raises:
        DataError: The file is damaged, holds something else, or would run code.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[version](file)
            if shape or not dtype.hasobject:
                raise ValueError(f"an array of shape {shape} and type {dtype}, not one object")
            return _Unpickler(file).load().item()
    except _RefusedError as error:
        raise DataError(
            f"{path} was not read: it names {error}, which annotations do not need and which could run code.",
            "Get the annotations from the benchmark's publishers.",
        ) from None
    except Exception as error:  # numpy and pickle raise nearly every type on damaged files
        if known := system_reason(getattr(error, "errno", None)):
            raise DataError(f"{path} cannot be read: {known[0]}.", known[1]) from error
        raise DataError(
            f"{path} is damaged or holds something else: {str(error) or repr(error)}",
            "Download the annotations again.",
        ) from error
