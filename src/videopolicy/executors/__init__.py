"""Work on other machines: shards of an evaluation and stages of training as units that an engine may run anywhere.

A unit says all that it needs and has a deterministic id. What it returns reaches the driver, the process in which the
user has typed the command; the driver alone writes to run folders. An engine may therefore run a unit again, or on
another machine, and nothing is counted twice (``docs/scaling.md``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from videopolicy.executors.engine import ExecutionError, Executor, LocalExecutor

if TYPE_CHECKING:
    from videopolicy.executors.waves import train_stages


def __getattr__(name: str) -> Any:
    if name == "train_stages":  # it needs torch
        from videopolicy.executors.waves import train_stages

        return train_stages
    raise AttributeError(f"module 'videopolicy.executors' has no attribute '{name}'")


__all__ = ["ExecutionError", "Executor", "LocalExecutor", "train_stages"]
