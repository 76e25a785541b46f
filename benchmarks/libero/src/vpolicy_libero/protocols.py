"""The protocols in which LIBERO is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vpolicy_libero.suites import original

InitialStates = Literal["stored", "random"]
Orientation = Literal["upright", "mirrored"]
PresetName = Literal["own", "libero", "openvla", "uva"]

STORED = 50
"""Initial states that the benchmark keeps of every task."""
_OPENVLA_STEPS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}


@dataclass(frozen=True)
class Protocol:
    """What the protocols in use differ in.

    Args:
        max_steps: Steps of 1/20 s after which an episode has failed.
        initial_states: ``stored``: episode i begins in the benchmark's state i. ``random``: in what LIBERO's own reset
            draws from the seed 100000 + i.
        settling_steps: How often ``settling_action`` is taken before an episode begins.
        settling_action: A relative action ``(7,)``.
        orientation: ``upright``: robosuite's raw pictures flipped vertically. ``mirrored``: turned by 180 degrees.
    """

    max_steps: int
    initial_states: InitialStates
    settling_steps: int
    settling_action: tuple[float, ...]
    orientation: Orientation


def preset(name: PresetName, suite: str) -> Protocol:
    """The protocol of a preset.

    Raises:
        ValueError: It is none of this suite.
    """
    zeros = (0.0,) * 7
    if name == "openvla":
        # OpenVLA's experiments/robot/libero/run_libero_eval.py, which openpi and others share; LeRobot has 280 steps
        # for libero_spatial.
        return Protocol(_OPENVLA_STEPS[original(suite)], "stored", 10, (*zeros[:6], -1.0), "mirrored")
    if name == "uva":
        # Unified Video Action Model's env_runner/libero_image_runner.py and config/task/libero10.yaml.
        if suite != "libero_10":
            raise ValueError(f"The preset 'uva' is of the suite libero_10, not of {suite}. Set preset: own.")
        return Protocol(500, "random", 0, zeros, "upright")
    # LIBERO's own evaluator: configs/eval/default.yaml and lifelong/evaluate.py.
    return Protocol(600, "stored", 5, zeros, "upright")
