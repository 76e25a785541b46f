"""What `build` returns is what the component declares; the part remembers which component it was built from."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from videopolicy.errors import PluginError
from videopolicy.spaces import Spaces
from videopolicy.types import FeatureLayout, Window

if TYPE_CHECKING:
    from videopolicy.components.kinds import Component

_CONTRACTS = {
    "text": ("text", "TextEncoder"),
    "learner": ("learner", "Learner"),
    "backbone": ("backbone", "VideoBackbone"),
    "extractor": ("extractor", "FeatureExtractor"),
    "decoder": ("decoder", "ActionDecoder"),
    "policy": ("policy", "Policy"),
    "dataset": ("dataset", "Dataset"),
}
"""By kind: the module below `videopolicy.contracts`, and the class of what is built."""


def checked_build(build: Callable[..., Any]) -> Callable[..., Any]:
    """The same method, of which the result is compared with the contract and with what the component declares.

    Raises (when it is called):
        PluginError: They differ; the message names the component, what was expected and what came.
    """

    @wraps(build)
    def checked(self: Any, *arguments: Any, **named: Any) -> Any:
        built = build(self, *arguments, **named)
        _ensure_as_declared(self, built, [*arguments, *named.values()], build.__name__)
        return built

    return checked


def plugin_of(cls: type) -> str:
    """The package or the file that a class comes from."""
    package = cls.__module__.partition(".")[0]
    module = sys.modules.get(cls.__module__)
    if module is not None and package.startswith("vpolicy_file_"):
        return str(getattr(module, "__file__", package))
    return package


def title(component: Component) -> str:
    """What a component is called in messages."""
    return f"{component.kind} '{component.type}' of {plugin_of(type(component))}"


def _ensure_as_declared(component: Any, built: Any, arguments: list[Any], method: str) -> None:
    if component.kind not in _CONTRACTS:
        return
    module, name = _CONTRACTS[component.kind]
    contract = getattr(importlib.import_module(f"videopolicy.contracts.{module}"), name)
    if not isinstance(built, contract):
        raise _differs(component, method, f"an object of type {type(built).__qualname__}", f"a videopolicy.{name}")
    if component.kind == "dataset":
        return
    from videopolicy.contracts.checked import Origin, set_origin

    spaces = next((one for one in arguments if isinstance(one, Spaces)), None)
    actions = text = None
    if component.kind == "text":
        text = (component.length, component.dim, component.pooled_dim)
    elif component.kind == "decoder":
        actions = (component.horizon, spaces.actions.dim) if spaces else None
    else:
        _ensure_window(component, built, method)
        if component.kind == "policy" and spaces:
            actions = (built.window.horizon, spaces.actions.dim)
        if component.kind == "extractor" and spaces:
            _ensure_equal(component, method, "layout", built.layout, component.layout(spaces), FeatureLayout)
    set_origin(built, Origin(component.kind, component.type, plugin_of(type(component)), actions, text))


def _ensure_window(component: Any, built: Any, method: str) -> None:
    window = built.window
    if component.kind == "backbone" and isinstance(window, Window):
        window = Window(window.observed, window.future)  # what else it needs, only the model knows
    _ensure_equal(component, method, "window", window, component.window(), Window)


def _ensure_equal(component: Any, method: str, name: str, found: object, declared: object, kind: type) -> None:
    if not isinstance(found, kind) or found != declared:
        raise _differs(
            component, method, f"a part whose `{name}` is {found}", f"the {declared} that the component declares"
        )


def _differs(component: Component, method: str, got: str, expected: str) -> PluginError:
    return PluginError(
        f"{title(component)}: `{method}` returned {got}; expected {expected}.",
        f"Correct it there; `vpolicy check {component.type}` shows it, too.",
    )
