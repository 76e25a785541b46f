"""``torch.compile`` for a policy of unknown make.

Which modules can be compiled is found by watching one call. A module qualifies when it ran as a whole and when nobody
was reading the outputs of modules inside it: a compiled forward never calls the hooks by which that is done. Of those
the outermost are compiled, or in their place the layers of which they say that they consist (`RepeatedLayers`). The
parts that fulfil a contract stay as they are, since their methods are more than one forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from videopolicy.contracts.measured import repeated_layers
from videopolicy.errors import VpolicyError
from videopolicy.evaluation.known_parts import is_part

RECOMPILES = 512
"""Variants that a forward may have: dozens of layers share one, and every size of them is a variant."""


def compile_modules(module: nn.Module, call: Callable[[], object]) -> list[str]:
    """Compile what runs inside ``call``.

    Args:
        module: The policy.
        call: Runs it once, on inputs of the sizes that are to come.

    Returns:
        Paths of the compiled modules, with the number of layers where these are compiled in their place. Each is
        compiled when it is first called.
    """
    torch._dynamo.config.recompile_limit = RECOMPILES
    torch._dynamo.config.accumulated_recompile_limit = 8 * RECOMPILES
    with _watched(module) as (completed, looked_at):
        call()
    chosen: list[str] = []

    def descend(at: nn.Module, path: str) -> None:
        inside = {id(inner) for inner in at.modules() if inner is not at}
        whole = id(at) in completed and not is_part(at) and not inside & looked_at
        if whole and any(True for _ in at.parameters()):
            layers = [inner for inner in repeated_layers(at) if id(inner) in completed]
            for one in layers or [at]:
                one.forward = torch.compile(one.forward, dynamic=False)
            chosen.append(f"{path} ({len(layers)} layers)" if layers else path)
            return
        for name, child in at.named_children():
            descend(child, f"{path}.{name}")

    descend(module, "policy")
    return chosen


@contextmanager
def failures_explained(switch: str) -> Iterator[None]:
    """Say in one sentence why torch cannot compile.

    Args:
        switch: What the user has asked for it with.

    Raises:
        VpolicyError: It cannot.
    """
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise VpolicyError(
            f"torch.compile cannot compile this policy: {reason}",
            f"Leave {switch} out; on a processor it needs a C++ compiler such as g++.",
        ) from error


def ensure_compiler(switch: str, device: torch.device) -> None:
    """Check that what torch compiles for a processor can be built, before anything depends on it.

    Raises:
        VpolicyError: There is no C++ compiler.
    """
    if device.type != "cpu":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise VpolicyError(
            f"{switch} compiles the policy, and torch finds no C++ compiler for the processor.",
            f"Install one such as g++, or leave {switch} out.",
        ) from error


@contextmanager
def _watched(module: nn.Module) -> Iterator[tuple[set[int], set[int]]]:
    """Record which modules complete a forward, and which have hooks of others while they run."""
    completed: set[int] = set()
    looked_at: set[int] = set()

    def before(inner: nn.Module, inputs: Any) -> None:
        if len(inner._forward_hooks) + len(inner._forward_pre_hooks) > 2:
            looked_at.add(id(inner))

    def after(inner: nn.Module, inputs: Any, output: Any) -> None:
        completed.add(id(inner))

    handles = [
        handle
        for inner in module.modules()
        for handle in (inner.register_forward_pre_hook(before), inner.register_forward_hook(after))
    ]
    try:
        yield completed, looked_at
    finally:
        for handle in handles:
            handle.remove()
