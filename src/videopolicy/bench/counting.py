"""Parameters and floating-point operations, which need no clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from videopolicy.bench.parts import Account, has_parts, split
from videopolicy.bench.subject import Subject


def count_parameters(module: nn.Module) -> int:
    """Parameters, each counted once however often it is used."""
    return sum(parameter.numel() for parameter in module.parameters())


def parameters_by_part(module: nn.Module, path: str = "policy") -> dict[str, int]:
    """Parameters of the modules of which a policy's parts are made, by path."""
    found: dict[str, int] = {}
    own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    if own:
        found[path] = own
    for name, child in module.named_children():
        inner = f"{path}.{name}"
        if has_parts(child):
            found |= parameters_by_part(child, inner)
        elif count := count_parameters(child):
            found[inner] = count
    return found


def operations(subject: Subject, plan: int = 0) -> dict[str, int]:
    """Floating-point operations of one chunk of actions for one row, by part.

    Matrix products, convolutions and attention are counted, a multiplication and an addition as two; everything
    else is not.

    Args:
        subject: The policy.
        plan: Which plan of an episode; what the policy remembers of earlier ones it does not compute again.
    """
    counter = FlopCounterMode(display=False)
    account = Account(lambda: float(counter.get_total_flops()))
    learns = [parameter for parameter in subject.policy.parameters() if parameter.requires_grad]
    subject.policy.requires_grad_(False)  # the counter follows the gradients of whatever could have some
    try:
        with _every_operation_visible(), counter, split(subject.policy, account):
            subject.act_on_device(subject.observation(1, plan))
    finally:
        for parameter in learns:
            parameter.requires_grad_(True)
    return {part: round(count) for part, count in account.spent.items()}


@contextmanager
def _every_operation_visible() -> Iterator[None]:
    """Turn off torch's fused transformer layer, inside which the counter cannot look."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
