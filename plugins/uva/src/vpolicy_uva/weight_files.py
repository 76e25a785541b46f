"""Files of weights that others have made; torch is not needed to say that they are missing."""

from __future__ import annotations

from pathlib import Path

from videopolicy import WeightsError
from videopolicy.parts.files import expanded

AUTOENCODER = "The autoencoder"
AUTOENCODER_FILES = ("config.json", "diffusion_pytorch_model.safetensors")
INITIAL = "weights.safetensors"


def initial_file(folder: str) -> Path:
    """The file in what ``vpolicy import mar`` has written.

    Raises:
        WeightsError: It is not there.
    """
    path = expanded(folder) / INITIAL
    if not path.is_file():
        raise WeightsError(
            f"initial_weights: there is no {INITIAL} in {folder}.",
            "Make it with `vpolicy import mar checkpoint-last.pth -o FOLDER`, or set initial_weights to null.",
        )
    return path
