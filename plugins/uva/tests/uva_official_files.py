"""Official checkpoints of small sizes: tensors under official names, and the normaliser (``normalize_util.py``)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopolicy import Checkpoint


def module_at(path: Path) -> Any:
    """A test's helper, from where it lies."""
    if path.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[path.stem])
    return sys.modules[path.stem]


official = module_at(Path(__file__).with_name("uva_official_names.py"))
TINY = official.Sizes(32, 2, 16, 1, 24, 2, cells=16)
TINY_WIDTHS = (32, 32, 32)
NORMALIZER = "normalizer.params_dict."


def field_of(name: str, low: list[float], high: list[float], kept: slice = slice(0, 0), eps: float = 1e-7) -> Any:
    """One field of the official normaliser: to [-1, 1], constant dimensions shifted only, kept ones left alone."""
    low, high = torch.tensor(low), torch.tensor(high)
    extent = high - low
    constant = extent < eps
    extent[constant] = 2
    scale = 2 / extent
    offset = -1 - scale * low
    offset[constant] = -low[constant]
    mean, deviation = (low + high) / 3, (high - low) / 4
    for value, given in ((scale, 1), (offset, 0), (low, -1), (high, 1), (mean, 0), (deviation, 1)):
        value[kept] = given
    stats = {"min": low, "max": high, "mean": mean, "std": deviation}
    found = {"scale": scale, "offset": offset} | {f"input_stats.{kind}": value for kind, value in stats.items()}
    return {f"{NORMALIZER}{name}.{kind}": value for kind, value in found.items()}


def image_field(name: str) -> dict[str, Tensor]:
    return {f"{NORMALIZER}{name}.{kind}": torch.ones(1) for kind in ("scale", "offset", "input_stats.min")}


PUSHT_SCALING = field_of("action", [12.0, 25.0], [511.0, 509.5], eps=1e-4)
PUSHT_SCALING |= field_of("agent_pos", [13.5, 32.0], [496.0, 510.0], eps=1e-4) | image_field("image")
ARM_LOW, ARM_HIGH = [-0.31, -0.3, 0.91, *[-9.0] * 7], [0.21, 0.35, 1.3, *[9.0] * 7]
ARM_SCALING = field_of("action", ARM_LOW, ARM_HIGH, slice(3, None)) | image_field("agentview_rgb")
TOOLHANG_SCALING = (
    ARM_SCALING
    | field_of("robot0_gripper_qpos", [0.0, -0.04], [0.04, 0.0])
    | field_of("robot0_eef_pos", [-0.2, -0.3, 0.8], [0.2, 0.3, 1.2])
    | field_of("robot0_eef_quat", [0.0] * 4, [5.0] * 4, slice(0, None))
)


def hollow(shapes: dict[str, tuple[int, ...]], prefix: str = "") -> dict[str, Tensor]:
    """Of the right shapes, and of no size."""
    return {prefix + name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}


def state_of(variant: Any, sizes: Any = TINY, widths: tuple[int, ...] = TINY_WIDTHS) -> dict[str, Tensor]:
    """A policy's state dict without its normaliser, as UMI's files are."""
    state = {"_dummy_variable": torch.zeros(0)}
    state |= hollow(official.model(variant, sizes), "model.")
    state |= hollow(official.autoencoder(widths), "vae_model.")
    return state | (hollow({"text_model.embeddings.weight": (2, 2)}, "") if variant.text else {})


def checkpoint_of(state: dict[str, Tensor], **others: Any) -> Checkpoint:
    held = {"ema_model": state, "optimizer": {"state": {}}, "lr_scheduler": {}, **others}
    held = {name: value for name, value in held.items() if value is not None}
    return Checkpoint(Path("latest.ckpt"), {"cfg": object, "state_dicts": held, "pickles": {"epoch": b""}})
