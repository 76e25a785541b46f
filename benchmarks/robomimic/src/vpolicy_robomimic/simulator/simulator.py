"""Robosuite's tasks of robomimic behind the worker's protocol. Runs in the simulator's own environment only."""

from __future__ import annotations

import hashlib
import logging
import sys
import types
from importlib.metadata import version
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from vpolicy_worker import StepwiseSimulator, ensure_versions, mujoco_rendering

# Robosuite would open a rendering context of its own choice when it is imported; this file of settings, which it
# looks for, keeps it from that.
_settings = types.ModuleType("robosuite.macros_private")
_settings.MUJOCO_GPU_RENDERING = False  # type: ignore[attr-defined]
sys.modules[_settings.__name__] = _settings

import mujoco  # noqa: E402
import robosuite  # noqa: E402

ENVIRONMENTS = {"tool_hang": "ToolHang"}
"""Robosuite's name of each task."""

FIRST_SEED = 100_000
"""Seed of episode 0 (``test_start_seed`` of Diffusion Policy's ``tool_hang_image_abs.yaml``)."""

STATE = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")

COLLISION_GROUP = 0
"""Geoms that robosuite does not show: shapes for contacts, around those that are seen."""

CONVENTIONS = {
    "images": "upright, not mirrored: robosuite's rows in reverse order",
    "actions": "pose of the gripper in the world's frame, two rows of its rotation matrix turned into axis and angle",
    "controller": "OSC_POSE, control_delta false, 20 Hz",
    "settling_steps": 0,
    "seeding": "numpy's global generator seeded 100000 + episode before a soft reset",
    "success": "robosuite's _check_success after a step",
}


class RobomimicSimulator(StepwiseSimulator):
    """Tasks of robomimic with the absolute actions of Diffusion Policy.

    Args:
        cameras: Names of the model's cameras.
        image_size: Height and width in pixels.
        rendering: ``stock`` or ``fast``, see `mujoco_rendering.Picture`.
        max_steps: Steps after which an episode has failed.
        spaces: What the benchmark declares, sent back with the names of the cameras that are there.
        versions: Packages that must have exactly these versions, because results depend on them.
    """

    def __init__(
        self,
        cameras: list[str],
        image_size: int,
        rendering: str,
        max_steps: int,
        spaces: dict[str, Any],
        versions: dict[str, str],
    ) -> None:
        ensure_versions(versions)
        self.cameras = cameras
        self.image_size = image_size
        self.rendering = rendering
        self.max_steps = max_steps
        self.spaces = spaces
        self.backend = ""
        self._context: Any = None
        self._scenes: dict[str, Scene] = {}

    def hello(self) -> dict[str, Any]:
        names = self._scene(next(iter(ENVIRONMENTS))).cameras()
        cameras = [camera for camera in self.spaces["cameras"] if camera["name"] in names]
        packages = ("robosuite", "mujoco", "numpy", "numba")
        return {
            "simulator": "robomimic",
            "versions": {package: version(package) for package in packages},
            "rendering": mujoco_rendering.renderer(self.backend),
            "conventions": CONVENTIONS,
            "spaces": dict(self.spaces, cameras=cameras),
        }

    def reset(self, task: str, episode: int, images: bool = True) -> dict[str, Any]:
        self.scene = self._scene(task)
        self.scene.reset(FIRST_SEED + episode)
        self.begin()
        return {"observation": self.observe(images), "initial_state": self.scene.hash()}

    def advance(self, action: np.ndarray) -> bool:
        return self.scene.step(action)

    def observe(self, images: bool = True) -> dict[str, Any]:
        pictures = {name: self.scene.render(name) for name in self.cameras} if images else {}
        return {"images": pictures, "state": self.scene.state()}

    def close(self) -> None:
        while self._scenes:
            self._scenes.popitem()[1].close()

    def _scene(self, task: str) -> Scene:
        """The task's scene, made when it is not there."""
        if task not in ENVIRONMENTS:
            raise ValueError(f"there is no task '{task}'")
        if self._context is None:
            self.backend, self._context = mujoco_rendering.open_context(self.image_size)
        if task not in self._scenes:
            self._scenes[task] = Scene(task, self.image_size, self.rendering)
        return self._scenes[task]


class Scene:
    """One task's environment, made as robomimic's data say (``env_args``), and what shows it.

    Args:
        task: Name of the task.
        size: Height and width of pictures in pixels.
        rendering: ``stock`` or ``fast``.
    """

    def __init__(self, task: str, size: int, rendering: str) -> None:
        logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
        controller = robosuite.load_controller_config(default_controller="OSC_POSE")
        controller["control_delta"] = False
        # A soft reset keeps the model, which no episode changes, and ends in the state of a hard one, which takes
        # seconds (Diffusion Policy's runner does the same, to save memory).
        self.env = robosuite.make(
            ENVIRONMENTS[task],
            robots="Panda",
            controller_configs=controller,
            control_freq=20,
            use_object_obs=False,
            use_camera_obs=False,
            has_renderer=False,
            has_offscreen_renderer=False,
            ignore_done=True,
            hard_reset=False,
        )
        self._seen: dict[str, Any] = {}
        model = self.env.sim.model._model
        self._picture = mujoco_rendering.Picture(model, size, rendering, hidden=(COLLISION_GROUP,))

    def cameras(self) -> tuple[str, ...]:
        return tuple(self.env.sim.model.camera_names)

    def reset(self, seed: int) -> None:
        """Begin the episode of a seed."""
        np.random.seed(seed)  # robosuite draws from numpy's global generator
        self._seen = self.env.reset()

    def step(self, action: np.ndarray) -> bool:
        """Execute one action ``(10,)``, and return whether the task is solved now."""
        controller = self.env.robots[0].controller
        turned = axis_and_angle(action[3:9], otherwise=controller.goal_ori)
        self._seen = self.env.step(np.concatenate([action[:3], turned, action[9:]]))[0]
        return bool(self.env._check_success())

    def state(self) -> np.ndarray:
        """What the robot measures of itself ``(9,)`` float32, as robosuite has sampled it after the last step."""
        return np.concatenate([self._seen[name] for name in STATE]).astype(np.float32)

    def hash(self) -> str:
        """Hash of the physics state and of the controller's aim."""
        model, data = self.env.sim.model._model, self.env.sim.data._data
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(model, kind))
        mujoco.mj_getState(model, data, physics, kind)
        digest = hashlib.sha256(physics.tobytes())
        controller = self.env.robots[0].controller
        for aim in (controller.goal_pos, controller.goal_ori, controller.initial_joint):
            digest.update(np.asarray(aim, np.float64).tobytes())
        return digest.hexdigest()

    def render(self, camera: str) -> np.ndarray:
        return self._picture.render(self.env.sim.data._data, camera)

    def close(self) -> None:
        self._picture.close()
        self.env.close()


def check_rendering() -> str:
    """Render one picture for real, and say with what."""
    backend, _ = mujoco_rendering.open_context(64)
    return f"{backend} renders"


def axis_and_angle(rows: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """The rotation vector that the controller takes, from two rows of a matrix that need not be exact.

    The first row is scaled to length 1, and the second one made perpendicular to it (Zhou et al. 2019, section 4.2;
    ``rotation_6d_to_matrix`` of PyTorch3D).

    Args:
        rows: Two rows of a rotation matrix ``(6,)``.
        otherwise: Matrix ``(3, 3)`` for rows that say nothing about a rotation: zeros, or two of one direction.

    Returns:
        Axis times angle ``(3,)`` in radians.
    """
    first, second = np.asarray(rows, np.float64).reshape(2, 3)
    normal = np.cross(first, second)
    lengths = np.linalg.norm(first), np.linalg.norm(normal)
    if min(lengths) < 1e-6:
        return Rotation.from_matrix(otherwise).as_rotvec()
    first, normal = first / lengths[0], normal / lengths[1]
    return Rotation.from_matrix(np.stack([first, np.cross(normal, first), normal])).as_rotvec()
