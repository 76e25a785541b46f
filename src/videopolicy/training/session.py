"""What all work on one recipe has in common."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from videopolicy.console.progress import Reporter
from videopolicy.recipes.recipe import Recipe
from videopolicy.storage.store import Store


@dataclass(frozen=True)
class Session:
    """A recipe on this machine.

    Args:
        recipe: The recipe.
        store: Where artifacts lie.
        device: Where models run.
        reporter: Shows progress.
    """

    recipe: Recipe
    store: Store
    device: torch.device
    reporter: Reporter

    @classmethod
    def here(cls, recipe: Recipe, store: Store, reporter: Reporter) -> Session:
        """A session on the accelerator where there is one."""
        return cls(recipe, store, available_device(), reporter)


def idle_accelerators() -> str:
    """Why there should be an accelerator that torch can use though there is none; empty where nothing says so."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.cuda.is_available() or named in ("", "-1", "NoDevFiles"):
        return ""
    if named is not None:
        return f"CUDA_VISIBLE_DEVICES is {named}"
    return "an NVIDIA driver is loaded" if Path("/proc/driver/nvidia/version").exists() else ""


def available_device() -> torch.device:
    """The accelerator where there is one.

    There, factors of float32 products may be rounded to TF32 from now on, as those of convolutions are by torch's
    default: an evaluation computes the same numbers whether or not the same process has trained before.
    """
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
