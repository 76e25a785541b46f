"""Trained weights on disk: safetensors beside a description, read strictly."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from videopolicy.artifacts import storage_errors, write_json
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.errors import WeightsError
from videopolicy.normalization import Normalizer
from videopolicy.recipe import Normalization
from videopolicy.weights import refuse_differences

WEIGHTS, CONFIG, NORMALIZATION = "weights.safetensors", "config.json", "normalization.json"


def save_weights(
    module: nn.Module, folder: Path, config: dict[str, Any], modes: Normalization, statistics: Statistics
) -> None:
    """Write what was trained of a module, and what is needed to use it.

    Frozen parameters are left out by name: they come from where the recipe took them.

    Args:
        module: As trained.
        folder: Gets ``weights.safetensors``, ``config.json`` and ``normalization.json``.
        config: The component's options.
        modes, statistics: How vectors were scaled.
    """
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    kept = {name: value.clone() for name, value in state.items() if name not in frozen}
    part = folder / f".{WEIGHTS}.part"
    with storage_errors(folder):
        save_file(kept, part)
        part.replace(folder / WEIGHTS)
    write_json(folder / CONFIG, {"component": config, "frozen": sorted(frozen)})
    write_json(folder / NORMALIZATION, {"modes": modes.model_dump(), "statistics": dataclasses.asdict(statistics)})


def load_weights(module: nn.Module, folder: Path) -> None:
    """Put saved weights into a module of the same architecture.

    Raises:
        WeightsError: Files are missing or damaged, or names or shapes differ; the message lists them.
    """
    if not (folder / WEIGHTS).is_file():
        raise WeightsError(
            f"There are no weights in {folder}.", f"Name a folder that holds {WEIGHTS} and {CONFIG}, such as a stage's."
        )
    try:
        state = load_file(folder / WEIGHTS)
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise WeightsError(
            f"The weights in {folder} cannot be read: {error}", "Copy the folder again, or train anew."
        ) from error
    own = module.state_dict()
    left_out = set(config.get("frozen", []))
    refuse_differences(str(folder), sorted(own.keys() - state.keys() - left_out), sorted(state.keys() - own.keys()))
    shapes = [
        f"{name} is {tuple(value.shape)} in the file and {tuple(own[name].shape)} in the model"
        for name, value in state.items()
        if value.shape != own[name].shape
    ]
    if shapes:
        raise WeightsError(
            f"The weights in {folder} do not fit the model: {'; '.join(shapes[:5])}"
            + (f"; and {len(shapes) - 5} more." if len(shapes) > 5 else "."),
            "Change the recipe's sizes to those the weights were trained with.",
        )
    with torch.no_grad():
        module.load_state_dict(state, strict=False)


def load_normalizer(folder: Path) -> Normalizer:
    """The scaling that was stored with weights."""
    stored = json.loads((folder / NORMALIZATION).read_text(encoding="utf-8"))
    state = stored["statistics"]["state"]
    statistics = Statistics(
        FieldStatistics(**stored["statistics"]["actions"]), FieldStatistics(**state) if state else None
    )
    return Normalizer(Normalization(**stored["modes"]), statistics)
