"""What a part says for whoever measures where a policy spends its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn

MeasuredPart = Literal["text", "encode", "video forward", "decode", "former", "action loop", "other"]
"""What costs are summed up by."""


@runtime_checkable
class MeasuredParts(Protocol):
    """A module that says which of its methods are which part of a policy.

    The contracts' methods are known. A policy that is not made of the contracts' parts declares on the classes of its
    modules ``measured_parts: ClassVar[Mapping[str, MeasuredPart]] = {"forward": "video forward"}``.
    """

    measured_parts: ClassVar[Mapping[str, MeasuredPart]]
    """Part by name of the method."""


@runtime_checkable
class RepeatedLayers(Protocol):
    """A module that consists mostly of a few kinds of layers, each many times over.

    Where it is compiled, these layers are, each kind once for every combination of sizes, in place of one region that
    holds them all: compiling takes less than half the time, and what remains between them is little.

    Where it is trained by several processes that hold a share of it each, a layer is what they gather at a time. Layers
    must be called as modules, and their weights read by nobody else.
    """

    repeated_layers: ClassVar[tuple[type, ...]]
    """Their classes; none holds another."""


def repeated_layers(module: nn.Module) -> list[nn.Module]:
    """The layers of which a module says that it consists, in their order; empty where it says nothing."""
    kinds = module.repeated_layers if isinstance(module, RepeatedLayers) else ()
    return [inner for inner in module.modules() if isinstance(inner, kinds)]


@runtime_checkable
class GraphMethods(Protocol):
    """A module that says which of its methods can be captured as a CUDA graph.

    They are functions of tensors of fixed shapes, compute on one device and never wait for it. Video models' `denoise`
    is known, and so are modules whose ``forward`` is called; this is for methods that are called by other names.
    """

    graph_methods: ClassVar[tuple[str, ...]]
    """Names of the methods."""
