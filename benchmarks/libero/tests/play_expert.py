"""Plays the experts of some tasks in LIBERO itself, and writes what they did as JSON; runs in its environment.

Usage: python play_expert.py FOLDER_OF_EXPERTS TASK=NOISE...
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, sys.argv[1])
import libero.libero
from experts import EXPERTS
from libero.libero.envs.env_wrapper import ControlEnv


def play(env: ControlEnv, task: str, noise: float) -> dict:
    """One episode from a state that the environment draws itself, after the usual ten settling steps."""
    env.seed(7)
    env.reset()
    for _ in range(10):
        env.step([0.0] * 6 + [-1.0])
    expert, random = EXPERTS[task](env.env), np.random.default_rng(0)
    digest, largest, success, steps = hashlib.sha256(), 0.0, False, 0
    while steps < 300 and not success:
        action = expert.action()
        assert action.shape == (7,) and action.dtype == np.float64
        largest = max(largest, float(np.abs(action).max()))
        digest.update(action.tobytes())
        env.step(np.clip(action + noise * random.standard_normal(7), -1, 1))
        success, steps = bool(env.check_success()), steps + 1
    return {"success": success, "steps": steps, "largest": largest, "actions": digest.hexdigest()}


def main() -> None:
    root = Path(libero.libero.__file__).parent / "bddl_files"
    played = []
    for task, _, noise in (argument.partition("=") for argument in sys.argv[2:]):
        file = next(file for suite in ("libero_goal", "libero_10") for file in (root / suite).glob(f"{task}.bddl"))
        env = ControlEnv(str(file), use_camera_obs=False, has_offscreen_renderer=False, ignore_done=True)
        played += [play(env, task, float(noise)) for _ in range(2)]
        env.close()
    print("PLAYED " + json.dumps(played))


if __name__ == "__main__":
    main()
