"""CUDA graphs for a policy of unknown make.

What a graph holds are kernels and the addresses that they read and write, so a function can be captured whose work
depends on tensors of fixed shapes alone. Two kinds of them are found:

- A video model's `denoise`, which is a function of tensors by contract: which feature maps it reads, and so where it
  ends, is Python's business and over when a graph is replayed.
- Modules that were called from outside of any other module while the policy acted, and ran as a whole.

A module may name further methods of its own, see `videopolicy.contracts.measured.GraphMethods`. Numbers come from the
same kernels as before, so actions stay the same to the last bit where a kernel's own order is fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from videopolicy.contracts.backbone import VideoBackbone
from videopolicy.contracts.text import TextEncoder
from videopolicy.errors import VpolicyError
from videopolicy.evaluation.known_parts import is_part

WARMUP = 3
"""Calls before a capture: libraries choose their kernels and ask for memory in the first ones."""


class Graphs:
    """The captured functions of one policy.

    Args:
        device: Where it runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.names: list[str] = []
        """Functions that may be captured."""
        self.captured: dict[str, int] = {}
        """How many graphs each of them became, one for every combination of shapes."""
        self.failures: dict[str, str] = {}
        """Why a function was not captured."""
        self.pool: Any = None
        self.busy = False

    def wrap(self, name: str, owner: nn.Module, method: str) -> None:
        """Let a method of one module be captured when it is next called."""
        self.names.append(name)
        owner.__dict__[method] = _Captured(self, name, getattr(owner, method))


class _Captured:
    """A function that is captured when it first sees a combination of shapes, and replayed from then on."""

    def __init__(self, graphs: Graphs, name: str, function: Callable[..., Any]) -> None:
        self.graphs, self.name, self.function = graphs, name, function
        self._known: dict[Any, tuple[Any, list[Tensor], Any]] = {}

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        graphs = self.graphs
        if graphs.busy or self.name in graphs.failures:
            return self.function(*arguments, **named)
        given: list[Tensor] = []
        shape = _taken_apart((arguments, named), given)
        key = shape, tuple((tuple(one.shape), one.dtype) for one in given)
        if key not in self._known:
            try:
                graphs.busy = True
                self._known[key] = self._capture((arguments, named), given)
                graphs.captured[self.name] = len(self._known)
            except Exception as error:  # whatever a capture cannot hold is computed as before
                graphs.failures[self.name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                return self.function(*arguments, **named)
            finally:
                graphs.busy = False
        graph, inputs, result = self._known[key]
        torch._foreach_copy_(inputs, given)
        graph.replay()
        # The graph writes its results to the same place the next time, and other graphs may use it before.
        return _rebuilt(result, lambda tensor: tensor.clone())

    def _capture(self, call: Any, given: list[Tensor]) -> tuple[Any, list[Tensor], Any]:
        device = self.graphs.device
        # Copies keep the strides, by which kernels are chosen.
        inputs = [one.to(device, copy=True) for one in given]
        source = iter(inputs)
        arguments, named = _rebuilt(call, lambda _: next(source))
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARMUP):
                self.function(*arguments, **named)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.graphs.pool):
            result = self.function(*arguments, **named)
        self.graphs.pool = graph.pool()
        return graph, inputs, result


def ensure_graphs(switch: str, device: torch.device) -> None:
    """Check that a device has CUDA graphs, before anything depends on them.

    Args:
        switch: What the user has asked for them with.
        device: Where policies run.

    Raises:
        VpolicyError: It has none.
    """
    if device.type != "cuda":
        raise VpolicyError(
            f"{switch} records CUDA graphs, and policies run on the processor here: torch finds no CUDA device.",
            f"Leave {switch} out, or run where torch can use a CUDA device.",
        )


def capture(policy: nn.Module, call: Callable[[], object], device: torch.device) -> Graphs:
    """Let what runs inside ``call`` be captured when it is next called.

    Args:
        policy: The policy.
        call: Runs it once.
        device: Where it runs.
    """
    graphs = Graphs(device)
    with _entered(policy) as entered:
        call()
    for path, module in policy.named_modules():
        name = f"policy.{path}" if path else "policy"
        if (methods := getattr(module, "graph_methods", None)) is not None:
            for method in methods:
                graphs.wrap(f"{name}.{method}", module, method)
        elif isinstance(module, VideoBackbone):
            graphs.wrap(f"{name}.denoise", module, "denoise")
        elif id(module) in entered:
            graphs.wrap(name, module, "forward")
    return graphs


@contextmanager
def released(policy: nn.Module) -> Iterator[None]:
    """Compute without graphs again behind the ``with``."""
    try:
        yield
    finally:
        for module in policy.modules():
            for name in [name for name, value in vars(module).items() if isinstance(value, _Captured)]:
                del module.__dict__[name]


@contextmanager
def _entered(policy: nn.Module) -> Iterator[set[int]]:
    """Record which modules with modules inside are called while no other one is running, and run as a whole."""
    running: list[int] = []
    entered: set[int] = set()
    left_out = {id(inner) for text in policy.modules() if isinstance(text, TextEncoder) for inner in text.modules()}

    def before(module: nn.Module, inputs: Any) -> None:
        running.append(id(module))

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        running.pop()
        if not running and output is not None and id(module) not in left_out:  # None where it was cut short
            entered.add(id(module))

    chosen = [m for m in policy.modules() if next(m.children(), None) is not None and not _holds_parts(m)]
    handles = [
        handle
        for module in chosen
        for handle in (module.register_forward_pre_hook(before), module.register_forward_hook(after, always_call=True))
    ]
    try:
        yield entered
    finally:
        for handle in handles:
            handle.remove()


def _holds_parts(module: nn.Module) -> bool:
    return any(is_part(inner) for inner in module.modules() if inner is not module)


def _taken_apart(value: Any, tensors: list[Tensor]) -> Any:
    """What a value is besides its tensors, which are appended to ``tensors``; can be compared and hashed."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return "tensor"
    if isinstance(value, dict):
        return "dict", tuple((key, _taken_apart(inner, tensors)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(_taken_apart(inner, tensors) for inner in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, tuple(_taken_apart(getattr(value, one.name), tensors) for one in fields(value))
    return value


def _rebuilt(value: Any, replacement: Callable[[Tensor], Tensor]) -> Any:
    """The same value with other tensors, in the order of `_taken_apart`."""
    if isinstance(value, Tensor):
        return replacement(value)
    if isinstance(value, dict):
        return {key: _rebuilt(inner, replacement) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_rebuilt(inner, replacement) for inner in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(*(_rebuilt(getattr(value, one.name), replacement) for one in fields(value)))
    return value
