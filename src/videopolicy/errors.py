"""Errors that a user can act on.

Every error raised for bad input carries a hint that says what to do next. The command line prints
message and hint without a traceback and exits with code 2; everything else is a bug and keeps its
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class VpolicyError(Exception):
    """An error whose cause lies in what the user gave, not in the code.

    Args:
        message: What is wrong, with names, paths and values.
        hint: What to do about it, one imperative sentence.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class RecipeError(VpolicyError):
    """A recipe cannot be read, or its parts do not fit together."""


class PluginError(VpolicyError):
    """A component is unknown, ambiguous, or its plugin cannot be imported."""


class DataError(VpolicyError):
    """A dataset is missing, damaged, or does not fit the recipe."""


class WeightsError(VpolicyError):
    """Weights are missing, unreachable, or do not match the model."""


class SimulationError(VpolicyError):
    """A simulator's environment cannot be made, or its worker died, hung or answered nonsense."""


class EvaluationStoppedError(SimulationError):
    """Episodes in a row ended in errors of the simulator: the machine is to blame, and the rest was not tried."""

    exit_code = 3


class PolicyServerError(VpolicyError):
    """A policy cannot be served, or a server of one cannot be reached or answers something else than actions."""


class HubError(VpolicyError):
    """The Hugging Face Hub cannot be reached, or does not give or take what it is asked for."""


class StorageError(VpolicyError):
    """A folder cannot be written, or the disk is full."""


class BusyError(StorageError):
    """Another process works on the same folder."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.55)
    return f" Did you mean '{near[0]}'?" if near else ""


def listing(names: Sequence[str] | Iterable[str], limit: int = 12) -> str:
    """Join names for a message, cutting long lists and saying how many were cut."""
    items = sorted(names)
    shown = ", ".join(items[:limit])
    return f"{shown} and {len(items) - limit} more" if len(items) > limit else shown or "none"
