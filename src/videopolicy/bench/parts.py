"""Which part of a policy something was spent in, without the parts' knowing.

The contracts' methods are wrapped while measuring. They call each other (a decoder asks a stream for features, the
stream the video model, the video model its text encoder), so what is counted is exclusive: a meter is read whenever
a part begins or ends, and what it has moved since belongs to the innermost part that was running.

A policy that is not made of the contracts' parts says which of its modules' methods are which part; see
`videopolicy.contracts.measured.MeasuredParts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

from torch import nn

from videopolicy.contracts.backbone import VideoBackbone
from videopolicy.contracts.decoder import ActionDecoder
from videopolicy.contracts.extractor import FeatureExtractor, FeatureStream
from videopolicy.contracts.measured import MeasuredPart
from videopolicy.contracts.policy import Policy
from videopolicy.contracts.text import TextEncoder
from videopolicy.evaluation.known_parts import declared_parts, is_part

PARTS: tuple[str, ...] = get_args(MeasuredPart)
TEXT, ENCODE, VIDEO, DECODE, FORMER, ACTION, OTHER = PARTS

_METHODS: dict[type[nn.Module], Mapping[str, str]] = {
    TextEncoder: {"forward": TEXT},
    VideoBackbone: {
        "encode": ENCODE,
        "condition": ENCODE,
        "denoise": VIDEO,
        "embed_level": VIDEO,
        "decode": DECODE,
    },
    ActionDecoder: {"sample": ACTION},
    Policy: {"act": OTHER},
}


class Account:
    """Splits what a meter counts among nested parts.

    Args:
        meter: Something that only grows, such as a clock.
    """

    def __init__(self, meter: Callable[[], float]) -> None:
        self.spent: dict[str, float] = {}
        self._meter = meter
        self._running: list[str] = []
        self._read_at = 0.0

    @property
    def total(self) -> float:
        """What was counted while any part was running."""
        return sum(self.spent.values())

    def _turn(self) -> None:
        now = self._meter()
        if self._running:
            part = self._running[-1]
            self.spent[part] = self.spent.get(part, 0.0) + now - self._read_at
        self._read_at = now

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """Count for ``part`` what no part inside it is counted for."""
        self._turn()
        self._running.append(part)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def wrapped(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, counted for ``part``."""

        def counted(*arguments: Any, **named: Any) -> Any:
            with self.inside(part):
                return function(*arguments, **named)

        return counted

    def wrapped_iterator(self, part: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The same generator function: what happens between its items is counted for ``part``, and what its consumer
        does with an item is not."""

        def counted(*arguments: Any, **named: Any) -> Iterator[Any]:
            items = function(*arguments, **named)
            finished = object()
            while True:
                with self.inside(part):
                    item = next(items, finished)
                if item is finished:
                    return
                yield item

        return counted


@contextmanager
def split(policy: Policy, account: Account) -> Iterator[None]:
    """Count every part of a policy while it acts inside the ``with``."""

    def stream(make: Callable[..., FeatureStream]) -> Callable[..., FeatureStream]:
        def counted(*arguments: Any, **named: Any) -> FeatureStream:
            with account.inside(FORMER):
                made = make(*arguments, **named)
            # The stream lives no longer than this call of the policy, so nothing has to be put back.
            made.at = account.wrapped(FORMER, made.at)  # type: ignore[method-assign]
            made.descend = account.wrapped_iterator(FORMER, made.descend)  # type: ignore[method-assign]
            return made

        return counted

    with ExitStack() as stack:
        for module in policy.modules():
            if isinstance(module, FeatureExtractor):
                stack.enter_context(_replaced(module, "stream", stream(module.stream)))
            methods = [known for contract, known in _METHODS.items() if isinstance(module, contract)]
            for name, part in (item for known in (*methods, declared_parts(module)) for item in known.items()):
                stack.enter_context(_replaced(module, name, account.wrapped(part, getattr(module, name))))
        yield


@contextmanager
def _replaced(module: nn.Module, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Hide a method of one instance, which may have been replaced before, behind another function."""
    before = module.__dict__.get(name)
    module.__dict__[name] = function
    try:
        yield
    finally:
        if before is None:
            del module.__dict__[name]
        else:
            module.__dict__[name] = before


def has_parts(module: nn.Module) -> bool:
    """Whether a module is listed by what it is made of, and not as a whole."""
    if isinstance(module, TextEncoder):
        return False
    fulfils = is_part(module) and not declared_parts(module)
    return fulfils or any(is_part(inner) for inner in module.modules() if inner is not module)
