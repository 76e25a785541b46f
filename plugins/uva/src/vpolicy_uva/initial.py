"""Weights of an image model that training begins with."""

from __future__ import annotations

import logging

import torch
from torch import nn

from videopolicy import WeightsError
from videopolicy.parts.weights import explain_loading, without_loading
from vpolicy_uva.weight_files import INITIAL, initial_file

_LOG = logging.getLogger(__name__)


def load_initial(joint: nn.Module, folder: str) -> None:
    """Take over what has the same name and shape, and log how much that was (``load_pretrained_model``).

    Where the file is missing, the official code prints a line and goes on at random.

    Args:
        joint: A joint model with its own initial weights.
        folder: What ``vpolicy import mar`` has written.

    Raises:
        WeightsError: There are no such weights, or none of them fits.
    """
    if without_loading():
        return
    path = initial_file(folder)
    from safetensors.torch import load_file

    with explain_loading(path.parent, "Initial weights", (INITIAL,)):
        state = load_file(path)
    own = joint.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise WeightsError(
            f"initial_weights: none of the {len(state)} tensors in {folder} has a name and shape of this model.",
            "Name a checkpoint of MAR of the transformer's size, or set initial_weights to null.",
        )
    with torch.no_grad():
        joint.load_state_dict(fitting, strict=False)
    others = sorted(state.keys() - fitting.keys())
    _LOG.log(
        logging.WARNING if others else logging.INFO,
        "initial_weights: %d of %d tensors of %s taken%s",
        len(fitting),
        len(state),
        folder,
        f"; not {', '.join(others)}" if others else "",
    )
