"""Services that training reports to: whether they can be reached is known before anything is computed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from videopolicy.errors import VpolicyError

PROJECT = "videopolicy"
"""What services call the runs of all recipes together."""

_SECONDS = 60
"""How long a person at the terminal has to log in when asked."""

_ALONE = ("offline", "disabled", "dryrun")
"""Modes of wandb that need no service."""

_HINT = (
    "Log in with `wandb login`, set WANDB_MODE=offline to keep the curves here, "
    "or leave wandb out: 'tracking=[tensorboard]'."
)


def ensure_trackers(tracking: Sequence[str]) -> None:
    """Check that everything a recipe tracks with is installed, knows who we are, and answers.

    Args:
        tracking: Names of the recipe's ``tracking``.

    Raises:
        VpolicyError: One of them is missing, without login, or cannot be reached.
    """
    if "trackio" in tracking and importlib.util.find_spec("trackio") is None:
        raise not_installed("trackio")
    if "wandb" not in tracking:
        return
    try:
        import wandb
    except ModuleNotFoundError:
        raise not_installed("wandb") from None
    try:
        if wandb.setup().settings.mode in _ALONE:
            return
        logged_in = wandb.login(verify=True, timeout=_SECONDS)
        chosen = wandb.setup().settings.mode
    except (wandb.Error, ValueError, OSError) as error:  # pydantic's errors of its settings are ValueErrors
        raise VpolicyError(f"The recipe tracks with wandb, which cannot be used: {error}", _HINT) from None
    if not logged_in and chosen != "offline":
        raise VpolicyError("The recipe tracks with wandb, where nobody is logged in.", _HINT)


def not_installed(name: str) -> VpolicyError:
    """What is said of a service whose package is missing.

    Args:
        name: As in a recipe's ``tracking``, and of the package.
    """
    return VpolicyError(
        f"The recipe tracks with {name}, which is not installed.",
        f"Install videopolicy[{name}], or take {name} out of `tracking`.",
    )
