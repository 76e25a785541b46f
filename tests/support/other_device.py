"""A stand-in for a second device, on a machine that has none: it computes on the processor, and is as strict as CUDA.

Tensors that are put on ``cuda`` say that they are there. An operation on tensors of both devices fails as it does with
a real one, and whatever makes the processor wait for the device is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

AWAY = torch.device("cuda", 0)
aten = torch.ops.aten
_COPIES = {aten._to_copy.default, aten.copy_.default}
_WAITS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.is_nonzero.default,
}
_INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


class Away(Tensor):
    """A tensor on the other device.

    Args:
        held: Its numbers, on the processor.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Away:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=AWAY,
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Away({self.held!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return compute(function, arguments, named or {}, Counter())


def compute(function: Any, arguments: tuple, named: dict, waits: Counter) -> Any:
    """Run an operation where its tensors are."""
    tensors = [one for one in tree_flatten((arguments, named))[0] if isinstance(one, Tensor)]
    away = [one for one in tensors if isinstance(one, Away)]
    here = [one for one in tensors if not isinstance(one, Away)]
    wanted = named.get("device")
    target_away = bool(away) if wanted is None else torch.device(wanted).type == "cuda"
    name = str(function)
    if function in _COPIES:
        if function is aten.copy_.default:
            target_away = isinstance(arguments[0], Away)
        if tensors and (len(away) not in (0, len(tensors)) or target_away != bool(away)):
            queued = target_away and named.get("non_blocking", False) and hasattr(tensors[0], "in_pinned_memory")
            if not queued:
                waits["to the device" if target_away else "from the device"] += 1
    elif away and here:
        strict = here if function not in _INDEXING else [one for one in here if one is arguments[0]]
        if mixed := [tuple(one.shape) for one in strict if one.ndim > 0]:
            raise RuntimeError(f"{name}: tensors of shapes {mixed} are on cpu, others on {AWAY}")
        if function in _INDEXING and here:
            waits[name] += 1
    if away and function in _WAITS:
        waits[name] += 1
    if function in _INDEXING and away:
        masks = [one for one in tree_flatten(arguments[1])[0] if isinstance(one, Tensor) and one.dtype == torch.bool]
        if masks:
            waits[name] += 1
    if function is aten._fused_sdp_choice.default:
        return 0  # the plain one
    held = tree_map(lambda one: one.held if isinstance(one, Away) else one, (arguments, named))
    if "device" in held[1] and wanted is not None:
        held[1]["device"] = torch.device("cpu")
    result = function(*held[0], **held[1])
    if not target_away:
        return result
    inplace = {id(one.held): one for one in away}

    def placed(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        return inplace[id(one)] if id(one) in inplace else Away(one)

    return tree_map(placed, result)


def _in_pinned_memory(values: Tensor) -> Tensor:
    """A copy that counts as pinned: its copies to the device queue up behind the work there where nobody blocks."""
    copy = values.clone()
    copy.in_pinned_memory = True  # type: ignore[attr-defined]
    return copy


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return compute(function, arguments, named or {}, self.waits)


@contextmanager
def other_device() -> Iterator[Counter]:
    """Inside, ``cuda`` is there.

    Yields:
        How often the processor has waited for it, by reason.
    """
    # The first four are what torch's own fake tensors do where there is no device.
    before = torch.cuda._lazy_init, torch.__future__.get_overwrite_module_params_on_conversion()
    pin = Tensor.pin_memory
    torch.cuda._lazy_init = lambda: None
    torch._C._ensureCUDADeviceGuardSet()
    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    Tensor.pin_memory = _in_pinned_memory  # type: ignore[method-assign,assignment]
    try:
        with _Watch() as watch:
            yield watch.waits
    finally:
        Tensor.pin_memory = pin  # type: ignore[method-assign]
        torch.__future__.set_overwrite_module_params_on_conversion(before[1])
        torch._C._set_only_lift_cpu_tensors(lifted)
        torch.cuda._lazy_init = before[0]
