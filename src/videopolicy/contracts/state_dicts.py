"""Names and tensors of a foreign state dict, as every importer gets them.

Three things say nothing about a model and are taken away: what ``torch.compile``, data parallelism and sharding put
around modules, the types of 8 bits in which some files keep floats, and views that are only marked as negated. What
cannot become a plain tensor is an error that names the entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Number
from typing import Any

import torch
from torch import Tensor

from videopolicy.errors import WeightsError, listing

_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
"""Attributes in which ``torch.compile``, FSDP, activation checkpointing and Lightning keep the module itself."""
_PARALLEL = "module"
"""The attribute in which data parallelism and DeepSpeed keep it; others use this name too."""
_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_LAYER = ("weight", "bias")

DENSE = "Save it once more with values.to_dense() in its place."
_REBUILT = {
    "sparse": ("a sparse tensor", DENSE),
    "qtensor": ("quantised", "Name weights that are not quantised, or save it once more with values.dequantize()."),
    "meta": ("a tensor without values (on the meta device)", "Save the state dict of a model that has its weights."),
    "nested": ("a nested tensor", "Save it once more as a plain tensor."),
    "type": ("of a tensor class of another library", "Save it once more as a plain tensor."),
    "reconstruct": ("an array of numpy", "Save it once more with torch.from_numpy(values)."),
}
"""By a part of the name of the function that makes one: what it is, and what to do about it."""


@dataclass(frozen=True)
class StateDict:
    """Plain tensors by name.

    Args:
        tensors: Dense ones on the CPU, of 16 to 64 bits.
        remarks: What was taken away or skipped, one sentence each.
    """

    tensors: dict[str, Tensor]
    remarks: tuple[str, ...]


def read_state(node: Mapping[Any, Any], where: str) -> StateDict:
    """The tensors of a mapping; other values beside them, such as counters, are skipped.

    Args:
        node: As stored.
        where: The file and the place in it, for messages.

    Raises:
        WeightsError: An entry is meant as a weight and cannot be one, or two have one name.
    """
    found: dict[str, Tensor] = {}
    remarks: list[str] = []
    eight: list[str] = []
    skipped: list[str] = []
    for name, value in node.items():
        if not isinstance(value, Tensor):
            _ensure_no_weight(name, value, where)
            if isinstance(name, str) and "." in name and value is not None:
                skipped.append(name)
            continue
        if not isinstance(name, str):
            raise WeightsError(
                f"{where}: the key {name!r} of a tensor is of type {type(name).__name__}, and weights are found by "
                "names, which are strings.",
                "Save a state dict (model.state_dict()), not a list or the state of an optimizer.",
            )
        _ensure_plain(name, value, where)
        if value.dtype in _EIGHT_BITS:
            eight.append(name)
            value = value.to(torch.bfloat16)  # which has all their values
        found[name] = value.detach().resolve_neg()
    names = _without_wrappers(found, where)
    changed = sorted(old for old, new in names.items() if old != new)
    if changed:
        example = min(changed, key=len)
        remarks.append(f"names read without the wrappers of training: {len(changed)} ({example} as {names[example]})")
    if eight:
        remarks.append(f"8-bit floats written as bfloat16: {listing(eight, 3)}")
    if skipped:
        remarks.append(f"skipped, for they are no tensors: {listing(skipped, 3)}")
    return StateDict({names[old]: value for old, value in found.items()}, tuple(remarks))


def _ensure_no_weight(name: Any, value: Any, where: str) -> None:
    """Ensure that what is no tensor was never meant as a weight."""
    made_by = getattr(value, "stands_for", "") or f"{type(value).__module__}.{type(value).__name__}"
    last = made_by.rpartition(".")[2]
    dotted = isinstance(name, str) and "." in name
    if last.startswith("_rebuild") or (dotted and last in ("_reconstruct", "ndarray")):
        key = next((key for key in _REBUILT if key in last), "reconstruct" if last == "ndarray" else "type")
        what, hint = _REBUILT[key]
        raise WeightsError(f"{where}: '{name}' is {what}, which no weight of ours is.", hint)
    if dotted and (isinstance(value, Number | list | tuple) or last == "ScriptObject"):
        raise WeightsError(
            f"{where}: '{name}' is of type {type(value).__name__}, not a tensor.",
            "Save the state dict of a model: names and tensors; or take this entry out.",
        )


def _ensure_plain(name: str, value: Tensor, where: str) -> None:
    """Ensure that a tensor has values that a file of weights can hold, one after the other."""
    key = (
        "qtensor" if value.is_quantized
        else "nested" if value.is_nested
        else "sparse" if value.layout != torch.strided
        else "meta" if value.is_meta
        else ""
    )  # fmt: skip
    if key:
        what, hint = _REBUILT[key]
        raise WeightsError(f"{where}: '{name}' is {what}, which no weight of ours is.", hint)
    if value.dtype not in (*_FLOATS, *_WHOLE, *_EIGHT_BITS):
        raise WeightsError(
            f"{where}: '{name}' is of type {_kind(value)}, which no weight of ours is.",
            "Save it once more as float32, or name weights that are not compressed.",
        )
    if name.rpartition(".")[2] not in _LAYER or "." not in name:
        return
    if value.dtype in _WHOLE:
        raise WeightsError(
            f"{where}: '{name}' holds whole numbers ({_kind(value)}) in place of a layer's weights, as quantised "
            "weights do.",
            "Name weights that are not quantised.",
        )
    if value.ndim == 0 or value.numel() == 0:
        raise WeightsError(
            f"{where}: '{name}' has the shape {tuple(value.shape)}, which no layer's weights have.",
            "Save the state dict of the whole model; with sharded training, gather it first.",
        )


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _without_wrappers(names: Iterable[str], where: str) -> dict[str, str]:
    """Names without the parts that wrappers have added, at their beginning or inside.

    ``module`` is one where nothing lies beside it: a wrapper holds nothing else, but for counters at the root.

    Raises:
        WeightsError: Two names differ in nothing but their wrappers.
    """
    parts = {name: tuple(part for part in name.split(".") if part not in _WRAPPERS) or (name,) for name in names}
    beside: dict[tuple[str, ...], set[str]] = {}
    for path in parts.values():
        if _PARALLEL in path:
            beside.update({path[:at]: set() for at, part in enumerate(path) if part == _PARALLEL})
    if beside:
        for path in parts.values():
            for at, part in enumerate(path):
                if path[:at] in beside and len(path) > 1:
                    beside[path[:at]].add(part)
    clean: dict[str, str] = {}
    origin: dict[str, str] = {}
    for name, path in parts.items():
        last = len(path) - 1
        kept = [
            part for at, part in enumerate(path) if part != _PARALLEL or at == last or beside[path[:at]] != {_PARALLEL}
        ]
        clean[name] = short = ".".join(kept)
        if short in origin:
            raise _twice(where, origin[short], name, short)
        origin[short] = name
    for short, name in origin.items():
        if short.startswith(f"{_PARALLEL}.") and (inside := short.removeprefix(f"{_PARALLEL}.")) in origin:
            raise _twice(where, name, origin[inside], inside)
    return clean


def _twice(where: str, one: str, other: str, name: str) -> WeightsError:
    return WeightsError(
        f"{where}: '{one}' and '{other}' are one name, '{name}', without what wrappers of training have added.",
        "Save the state dict of one model: of the wrapped one or of the one inside.",
    )
