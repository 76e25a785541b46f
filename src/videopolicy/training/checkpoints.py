"""Trained weights on disk: safetensors beside a description, read strictly."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.errors import WeightsError
from videopolicy.paths import ensure_regular
from videopolicy.recipes.recipe import Normalization
from videopolicy.storage.files import write_json, written_whole
from videopolicy.training.normalization import Normalizer
from videopolicy.training.weight_files import CONFIG, NORMALIZATION, WEIGHTS
from videopolicy.weights import ensure_no_differences

Shapes = Mapping[str, tuple[int, ...]]


def save_weights(
    module: nn.Module,
    folder: Path,
    config: dict[str, Any],
    modes: Normalization,
    statistics: Statistics,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write what was trained of a module, and what is needed to use it.

    Frozen parameters are left out by name: they come from where the recipe took them.

    Args:
        module: As trained.
        folder: Gets ``weights.safetensors``, ``config.json`` and ``normalization.json``.
        config: The component's options.
        modes, statistics: How vectors were scaled.
        weights: Of the module, by name; None: those that it holds.
    """
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    state = module.state_dict() if weights is None else weights
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    kept = {name: value.clone() for name, value in state.items() if name not in frozen}
    with written_whole(folder / WEIGHTS) as part:
        save_file(kept, part)
    write_json(folder / CONFIG, {"component": config, "frozen": sorted(frozen)})
    save_normalization(folder, modes, statistics)


def save_normalization(folder: Path, modes: Normalization, statistics: Statistics) -> None:
    """Write how vectors are scaled for the weights in a folder."""
    write_json(folder / NORMALIZATION, {"modes": modes.model_dump(), "statistics": dataclasses.asdict(statistics)})


def load_weights(module: nn.Module, folder: Path) -> None:
    """Put saved weights into a module of the same architecture.

    Raises:
        WeightsError: Files are missing or damaged, or names or shapes differ; the message lists them.
    """
    with _explained(folder):
        for name in (WEIGHTS, CONFIG):
            ensure_regular(folder / name, WeightsError, "Copy the folder again, or make the weights again.")
        state = load_file(folder / WEIGHTS)
        left_out = _left_out(folder)
    ensure_fit(module, str(folder), {name: tuple(value.shape) for name, value in state.items()}, left_out)
    with torch.no_grad():
        module.load_state_dict(state, strict=False)


def check_weights(module: nn.Module, folder: Path) -> None:
    """Compare names and shapes with saved weights; nothing is loaded, and the module may be on the meta device.

    Raises:
        WeightsError: As for `load_weights`.
    """
    with _explained(folder):
        with safe_open(folder / WEIGHTS, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        left_out = _left_out(folder)
    ensure_fit(module, str(folder), shapes, left_out)


def ensure_fit(module: nn.Module, source: str, shapes: Shapes, left_out: tuple[str, ...]) -> None:
    """Ensure that weights are of this architecture.

    Args:
        module: What they are for.
        source: Where they come from, for the message.
        shapes: Their names and shapes.
        left_out: Names that they need not hold. What ends with a dot stands for the frozen names below it, which the
            recipe's own components load.

    Raises:
        WeightsError: Names or shapes differ.
    """
    own = module.state_dict()
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    below = tuple(name for name in left_out if name.endswith("."))
    elsewhere = {name for name in own if name.startswith(below) and name not in trained} if below else set()
    ensure_no_differences(
        source, sorted(own.keys() - shapes.keys() - set(left_out) - elsewhere), sorted(shapes.keys() - own.keys())
    )
    different = [
        f"{name} is {shape} in the file and {tuple(own[name].shape)} in the model"
        for name, shape in shapes.items()
        if shape != tuple(own[name].shape)
    ]
    if different:
        raise WeightsError(
            f"The weights in {source} do not fit the model: {'; '.join(different[:5])}"
            + (f"; and {len(different) - 5} more." if len(different) > 5 else "."),
            "Change the recipe's sizes to those the weights were trained with.",
        )


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    if not (folder / WEIGHTS).is_file():
        raise WeightsError(
            f"There are no weights in {folder}.", f"Name a folder that holds {WEIGHTS} and {CONFIG}, such as a stage's."
        )
    try:
        yield
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"The weights in {folder} cannot be read: {error}", "Copy the folder again, or make the weights again."
        ) from error


def _left_out(folder: Path) -> tuple[str, ...]:
    return tuple(json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("frozen", []))


def load_normalizer(folder: Path) -> Normalizer:
    """The scaling that was stored with weights.

    Raises:
        WeightsError: It is missing or damaged.
    """
    path = folder / NORMALIZATION
    ensure_regular(path, WeightsError, "Copy the folder again, or make the weights again.")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        state = stored["statistics"]["state"]
        statistics = Statistics(
            FieldStatistics(**stored["statistics"]["actions"]), FieldStatistics(**state) if state else None
        )
        return Normalizer(Normalization(**stored["modes"]), statistics)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"The scaling in {path} cannot be read: {error}", "Copy the folder again, or make the weights again."
        ) from error
