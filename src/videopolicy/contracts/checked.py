"""What a part returns is what its contract says, or one sentence names the part, what was expected and what came.

The contracts' classes derive from `Part`. When somebody subclasses one, the methods that `Part._checks` names are
wrapped: what they return is looked at before it is handed on, whoever calls, in a run as in ``vpolicy check``. That
is metadata on the host alone, such as shapes and types; values are looked at inside `values_checked` only, since on
an accelerator reading them waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from types import FunctionType
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor

from videopolicy.errors import PluginError, listing

_VALUES: ContextVar[bool] = ContextVar("values_checked", default=False)

Check = Callable[..., Any]
"""Given the part, what its method returned and the method's own arguments, gives what is handed on."""


@dataclass(frozen=True)
class Origin:
    """The component that a part was built from.

    Args:
        kind: Such as ``decoder``.
        type: As recipes write it.
        plugin: The package or the file that it comes from.
        actions: H and A of the chunks that it has to give; None for what gives none.
        text: Tokens, width and width of the vector that a text encoder has to give; None for what is none.
    """

    kind: str
    type: str
    plugin: str
    actions: tuple[int, int] | None = None
    text: tuple[int, int, int] | None = None

    def __str__(self) -> str:
        return f"{self.kind} '{self.type}' of {self.plugin}"


class Part:
    """Base of the contracts' classes."""

    _checks: ClassVar[Mapping[str, Check]] = {}
    """What is checked of the results of methods, by their names."""
    _origin: Origin | None = None
    """See `set_origin`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, check in cls._checks.items():
            method = cls.__dict__.get(name)
            if isinstance(method, FunctionType) and not getattr(method, "__isabstractmethod__", False):
                setattr(cls, name, _checked(method, check))


def _checked(method: Callable[..., Any], check: Check) -> Callable[..., Any]:
    @wraps(method)
    def checked(self: Any, *arguments: Any, **named: Any) -> Any:
        return check(self, method(self, *arguments, **named), *arguments, **named)

    return checked


@contextmanager
def values_checked() -> Iterator[None]:
    """Look at values, too: the first part whose result is not finite is named. For when something is wrong already."""
    token = _VALUES.set(True)
    try:
        yield
    finally:
        _VALUES.reset(token)


def set_origin(part: Part, origin: Origin) -> None:
    """Say which component a part was built from."""
    part._origin = origin


def name_of(part: object) -> str:
    """What a part is called in messages: as recipes write it, with its plugin, or else its class."""
    origin = getattr(part, "_origin", None)
    return str(origin) if origin is not None else f"{type(part).__module__}.{type(part).__qualname__}"


def wrong(part: object, method: str, got: str, expected: str, hint: str = "") -> NoReturn:
    """Say that a part does not keep its promise.

    Args:
        part: The part, or what it is called.
        method: Whose result it is.
        got, expected: The two sides; both complete "returned ...".

    Raises:
        PluginError: Always.
    """
    origin = getattr(part, "_origin", None)
    check = f"Correct it there; `vpolicy check {origin.type}` shows it, too." if origin else f"Correct `{method}`."
    name = part if isinstance(part, str) else name_of(part)
    raise PluginError(f"{name}: `{method}` returned {got}; expected {expected}.", hint or check)


def described(value: object) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    if value is None:
        return "None"
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{value!r} of type {name}" if isinstance(value, int | float | str) else f"an object of type {name}"


def ensure_kind(part: object, method: str, found: object, kind: type) -> None:
    """Ensure that a result is of a class.

    Raises:
        PluginError: It is not.
    """
    if not isinstance(found, kind):
        wrong(part, method, described(found), f"a videopolicy.{kind.__name__}")


def ensure_tensor(
    part: object,
    method: str,
    found: object,
    shape: Sequence[int | None],
    what: str,
    like: Tensor | None = None,
    field: str = "",
) -> None:
    """Ensure that a result is a floating-point tensor of a shape.

    Args:
        part: Whose result it is.
        method: The method that gave it.
        found: The result, or one field of it.
        shape: Expected sizes; None for any.
        what: What the axes are, such as ``rows, horizon, actions``.
        like: On whose device it must be.
        field: Its name in the result.

    Raises:
        PluginError: It is something else.
    """
    where = f"as {field} " if field else ""
    sizes = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ("," * (len(shape) == 1)) + ")"
    expected = f"a floating-point tensor of shape {sizes}" + (f": {what}" if what else "")
    if (
        not isinstance(found, Tensor)
        or found.ndim != len(shape)
        or any(size is not None and size != own for size, own in zip(shape, found.shape, strict=True))
        or not found.is_floating_point()
    ):
        wrong(part, method, where + described(found), expected)
    if like is not None and found.device != like.device:
        wrong(part, method, f"{where}a tensor on {found.device}", f"one on {like.device}, where its inputs are")
    if _VALUES.get() and not found.is_meta and not bool(torch.isfinite(found).all()):
        wrong(
            part,
            method,
            f"{where}NaN or infinity",
            "numbers",
            "Look for a division by zero or weights that diverged; "
            "of all parts this is the first one whose result is not finite.",
        )


def ensure_losses(part: Any, found: object, *_: Any, **__: Any) -> object:
    """`Learner.loss`: named scalars on one device, of which at least one has a gradient while something is trained."""
    if not isinstance(found, Mapping) or not found:
        got = "an empty dictionary" if isinstance(found, Mapping) else described(found)
        wrong(part, "loss", got, "a dictionary of scalar losses by name, such as {'action': loss}")
    for name, value in found.items():
        if not isinstance(name, str):
            wrong(part, "loss", f"a loss named {name!r}", "names that are strings")
        ensure_tensor(part, "loss", value, (), "one scalar", field=f"'{name}'")
    devices = {str(value.device) for value in found.values()}
    if len(devices) > 1:
        wrong(part, "loss", f"losses on {listing(devices)}", "all of them on one device")
    if _lacks_gradient(part, *found.values()):
        wrong(part, "loss", *_NO_GRADIENT)
    return found


_NO_GRADIENT = (
    "a loss without gradient",
    "one that was computed from its trainable parameters, without torch.no_grad, detach or item",
)


def ensure_decoder_loss(part: Any, found: Any, stream: Any, actions: Tensor, mask: Tensor, **_: Any) -> object:
    """`ActionDecoder.loss`: a scalar with a gradient where there are actions."""
    ensure_tensor(part, "loss", found, (), "one scalar", like=actions)
    if _lacks_gradient(part, found, *stream.losses.values()) and bool(mask.any()):
        wrong(part, "loss", *_NO_GRADIENT)
    return found


def _lacks_gradient(part: Any, *losses: Tensor) -> bool:
    if not torch.is_grad_enabled() or not part.training or any(loss.requires_grad for loss in losses):
        return False
    return any(parameter.requires_grad for parameter in part.parameters())


def ensure_frozen_features(part: Any, found: Any, observation: Any, *_: Any, **__: Any) -> object:
    """`CachesFeatures.frozen_features`: one row of floats for every observation."""
    if not isinstance(found, Tensor) or found.ndim < 2:
        wrong(part, "frozen_features", described(found), "a tensor (B, ...)")
    shape = (len(observation), *found.shape[1:])
    ensure_tensor(part, "frozen_features", found, shape, "a row for every observation")
    return found
