"""The official normaliser (``normalizer.py``) as our statistics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from videopolicy import FieldStatistics, Statistics

PREFIX = "normalizer.params_dict."
IMAGES = "the scaling of images, which our model does by itself"

# In the order in which the official model lays them side by side.
_STATE = (
    "agent_pos",
    "robot0_eef_pos",
    "robot0_eef_quat",
    "robot0_eef_rot_axis_angle",
    "robot0_gripper_qpos",
    "robot0_gripper_width",
    "robot0_eef_rot_axis_angle_wrt_start",
)
_KNOWN = ("scale", "offset", *(f"input_stats.{name}" for name in ("min", "max", "mean", "std")))


@dataclass
class Scaling:
    """How vectors were scaled.

    Args:
        statistics: Such that ``minmax`` scales as the official normaliser does: the minimum and the maximum are what
            it maps to -1 and 1, which in dimensions that it only shifts are not those of the data.
        modes: What a recipe's ``normalization`` must say.
        unscaled: Dimensions of actions that are left as they are, where others are not.
        dropped: Official names that are of no use, each with the reason.
        unexpected: Official names that nobody knows.
        missing: Official names that should be there.
    """

    statistics: Statistics | None = None
    modes: dict[str, str] = field(default_factory=dict)
    unscaled: list[int] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def read_scaling(state: Mapping[str, Tensor], actions: int, state_width: int) -> Scaling:
    """The scaling in the tensors below `PREFIX`.

    Without any, vectors are left as they are: that is what UMI's configuration trains with (``normalizer_type: none``).

    Args:
        state: Names and tensors.
        actions: A.
        state_width: S, 0 without proprioception.
    """
    found = Scaling()
    fields: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        part, _, kind = name.partition(".")
        if re.search("image|rgb", part):
            found.dropped[PREFIX + name] = IMAGES
        elif kind in _KNOWN and (part == "action" or part in _STATE):
            fields.setdefault(part, {})[kind] = value.double().flatten()
        else:
            found.unexpected.append(PREFIX + name)
    chosen = ["action", *(part for part in _STATE if part in fields)] if fields else []
    lacking = [f"{PREFIX}{part}.{kind}" for part in chosen for kind in _KNOWN if kind not in fields.get(part, {})]
    if lacking:
        found.missing += lacking
        return found
    one = _statistics([fields["action"]]) if fields else _identity(actions)
    parts = [fields[part] for part in chosen[1:]]
    other = _statistics(parts) if parts else _identity(state_width) if state_width else None
    found.statistics = Statistics(one, other)
    found.modes["actions"] = "identity" if _left_alone(one) == list(range(len(one.mean))) else "minmax"
    if other is not None:
        found.modes["state"] = "identity" if _left_alone(other) == list(range(len(other.mean))) else "minmax"
    found.unscaled = _left_alone(one) if found.modes["actions"] == "minmax" else []
    return found


def _statistics(fields: list[dict[str, Tensor]]) -> FieldStatistics:
    """Of fields side by side, each ``x * scale + offset``."""
    scale, offset, mean, deviation = (
        torch.cat([one[kind] for one in fields]) for kind in ("scale", "offset", "input_stats.mean", "input_stats.std")
    )
    low, high = (-1 - offset) / scale, (1 - offset) / scale
    return FieldStatistics(low.tolist(), high.tolist(), mean.tolist(), deviation.tolist())


def _identity(width: int) -> FieldStatistics:
    return FieldStatistics([-1.0] * width, [1.0] * width, [0.0] * width, [1.0] * width)


def _left_alone(one: FieldStatistics) -> list[int]:
    pairs = zip(one.minimum, one.maximum, strict=True)
    return [index for index, (low, high) in enumerate(pairs) if (low, high) == (-1.0, 1.0)]
