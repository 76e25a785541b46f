"""Pretrained parts of a Stable Video Diffusion pipeline folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from videopolicy import WeightsError
from videopolicy.parts.weights import ensure_no_differences, explain_loading, pretrained_folder, without_loading

Module = TypeVar("Module", bound=Any)


def files_of(part: str) -> tuple[str, str]:
    """Description and weights of one part of a diffusers pipeline, relative to its folder."""
    return f"{part}/config.json", f"{part}/diffusion_pytorch_model.safetensors"


def ensure_as_trained(folder: Path, trained: Mapping[str, Any]) -> None:
    """Check what a folder of ``vpolicy import`` says of a video model's training besides what diffusers writes.

    Args:
        folder: That of the pipeline. One that does not say anything passes, and so does one that cannot be read:
            whoever loads it says so.
        trained: What the recipe says, by the entry of the UNet's ``config.json``.

    Raises:
        WeightsError: It was trained otherwise.
    """
    try:
        config = json.loads((folder / files_of("unet")[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(config, dict):
        _ensure_same("The UNet", folder / "unet", config, trained)


def _ensure_same(what: str, place: Path, config: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    differences = [
        f"{name} is {config[name]} there and {value} in the recipe"
        for name, value in recipe.items()
        if name in config and config[name] != value
    ]
    if differences:
        raise WeightsError(
            f"{what} in {place} is another one: {'; '.join(differences)}.",
            "Change the options of `svd` in the recipe to those of the weights.",
        )


def loaded_part(
    make: Callable[[], Module],
    weights: str | None,
    part: str,
    what: str,
    decisive: Sequence[str],
    trained: Mapping[str, Any] | None = None,
) -> Module:
    """A diffusers model with pretrained weights; with its initial ones where there are none or none are to be loaded.

    Where weights follow, nothing is drawn and nothing allocated first: drawing 1.5 billion numbers takes seconds, and
    holding them beside those that take their place takes gigabytes.

    Args:
        make: Builds the model with the recipe's options.
        weights: Hub id or local folder of the pipeline.
        part: Its subfolder.
        what: How to call the part in messages.
        decisive: Entries of ``config.json`` that must be those of the model: some, such as the number of heads,
            change what is computed and leave every weight's shape as it is.
        trained: What the recipe says of entries that diffusers does not know, see `ensure_as_trained`.

    Returns:
        The model, in the default floating-point type whatever that of the file is.

    Raises:
        WeightsError: The weights are unreachable, incomplete, or of another shape.
    """
    if weights is None or without_loading():
        return make()
    import torch

    with torch.device("meta"):
        model = make()
    files = files_of(part)
    folder = pretrained_folder(weights, what, files)
    with explain_loading(folder, what, files):
        from safetensors.torch import load_file

        config = json.loads((folder / files[0]).read_text(encoding="utf-8"))
        state = load_file(folder / files[1])
        own = model.state_dict()
        ensure_no_differences(str(folder / part), own.keys() - state.keys(), state.keys() - own.keys())
        recipe = {name: _plain(model.config[name]) for name in decisive} | dict(trained or {})
        _ensure_same(what, folder / part, config, recipe)
        # Into memory of its own: a file that is only mapped may change or vanish.
        copied = {name: state.pop(name).to(like.dtype, copy=True) for name, like in own.items()}
        model.load_state_dict(copied, assign=True)
    return model


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
