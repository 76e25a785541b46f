"""One task of RoboCasa: its environment, begun in the same state whatever it did before, and what shows it.

RoboCasa draws kitchen, objects and places again at every reset and builds a model from them. All of that comes from the
environment's generator and NumPy's global one, which are seeded here before every reset.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from vpolicy_worker import mujoco_rendering  # first: MuJoCo opens no rendering context of its own then

# isort: split
import mujoco
import numpy as np

ASSETS = "VPOLICY_ROBOCASA_ASSETS"
"""The environment variable with the folder that holds the package ``robocasa`` with its assets."""
STAND_IN = "stand-in.txt"
"""What a folder of stand-ins has in it (`assets.MARKER`)."""
VERSION = "0.2.0"
_OBJECTS = "robocasa/models/assets/objects/objaverse"
_TEXTURES = "robocasa/models/assets/textures"

# robosuite would load EGL when it is imported, also where only OSMesa is there. This file of settings, which it looks
# for, keeps it from that.
_SETTINGS = types.ModuleType("robosuite.macros_private")
_SETTINGS.MUJOCO_GPU_RENDERING = False  # type: ignore[attr-defined]
sys.modules[_SETTINGS.__name__] = _SETTINGS


def _import() -> str:
    """Import RoboCasa from the assets' folder; returns which assets these are.

    Raises:
        RuntimeError: The folder holds no RoboCasa of this version, or lacks a pack.
    """
    folder = Path(os.environ.get(ASSETS, ""))
    if not (folder / "robocasa" / "models").is_dir():
        raise RuntimeError(
            f"{ASSETS} is '{folder}', which holds no package robocasa; run `vpolicy env assets robocasa`"
        )
    missing = [name for name in (_TEXTURES, _OBJECTS) if not (folder / name).is_dir()]
    if missing:
        raise RuntimeError(f"the assets in {folder} lack {', '.join(missing)}; run `vpolicy env assets robocasa`")
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    import robocasa

    if robocasa.__version__ != VERSION:
        raise RuntimeError(f"RoboCasa {VERSION} is needed, {folder} holds {robocasa.__version__}")
    return "stand-in" if (folder / STAND_IN).is_file() else "official"


KIND = _import()
"""``official`` or ``stand-in``: which assets were found."""

import robosuite  # noqa: E402
from robocasa.environments.kitchen.kitchen import REGISTERED_KITCHEN_ENVS  # noqa: E402
from robosuite.controllers import load_composite_controller_config  # noqa: E402
from robosuite.utils.transform_utils import mat2quat  # noqa: E402

_COLLISION_GEOMS = 0
"""The group of geoms that robosuite does not draw."""
_MOST_GEOMS = 10_000
"""As robosuite has it: a kitchen has a thousand and more."""
_CONSTANT = ("mesh", "tex", "skin", "hfield", "bvh", "oct", "name", "text", "paths", "bufferadr", "flex", "plugin")
"""Prefixes of the large arrays of a model, which say how things look."""


class Sight(NamedTuple):
    """What is seen at a moment: positions of joints, and colours of the sites ``(n, 4)`` (water, flames, coffee)."""

    positions: np.ndarray
    colors: np.ndarray


class Scene:
    """A task's environment without pictures of robosuite's.

    Args:
        task: RoboCasa's name of it.
        split: Of objects, ``A`` or ``B``.
        scenes: (layout, style) of the kitchens that will be asked for.
        size: Height and width of pictures in pixels.
        rendering: ``stock`` or ``fast``, see `mujoco_rendering.Picture`.

    Raises:
        ValueError: There is no such task.
    """

    def __init__(self, task: str, split: str, scenes: Sequence[tuple[int, int]], size: int, rendering: str) -> None:
        if task not in REGISTERED_KITCHEN_ENVS:
            raise ValueError(f"RoboCasa has no task '{task}'")
        self.task, self.size, self.rendering = task, size, rendering
        self._seed([0])
        self.env = robosuite.make(
            task,
            robots="PandaOmron",
            controller_configs=load_composite_controller_config(controller=None, robot="PandaOmron"),
            use_camera_obs=False,
            has_renderer=False,
            has_offscreen_renderer=False,
            ignore_done=True,
            seed=0,
            obj_instance_split=split,
            layout_and_style_ids=[list(scene) for scene in scenes],
            translucent_robot=False,
        )
        self._picture: Any = None

    def reset(self, seed: Sequence[int], scene: tuple[int, int]) -> None:
        """Begin an episode.

        Args:
            seed: Of everything that is drawn at random.
            scene: The kitchen: layout and style.

        Raises:
            ValueError: RoboCasa leaves this layout out for this task.
        """
        if scene[0] in self.env.EXCLUDE_LAYOUTS:
            raise ValueError(f"RoboCasa has no '{self.task}' in layout {scene[0]}")
        self.close_picture()
        self._seed(seed)
        self.env.rng = np.random.default_rng(list(seed))
        self.env.layout_and_style_ids = [scene]
        self.env.reset()
        self.env._observables = {}  # read at every one of 25 substeps, for nobody
        self.model, self.data = self.env.sim.model._model, self.env.sim.data._data
        self.robot = self.env.robots[0]
        self._stage = mujoco.MjData(self.model)  # where pictures are taken, so that the episode is not disturbed
        base = self.env.sim.model.site_name2id(self.robot.robot_model.base.correct_naming("center"))
        hand = self.env.sim.model.body_name2id(self.robot.robot_model.eef_name["right"])
        self._base, self._hand = base, hand

    @staticmethod
    def _seed(seed: Sequence[int]) -> None:
        np.random.seed(list(seed))
        random.seed(repr(list(seed)))

    def step(self, action: np.ndarray) -> bool:
        """Take one control step of 1/20 s with RoboCasa's action ``(12,)``; returns whether the task is solved now."""
        self.env.step(action)
        return self.solved()

    def solved(self) -> bool:
        return bool(self.env._check_success())

    def sentence(self) -> str:
        """What this episode's robot is asked to do."""
        return str(self.env.get_ep_meta()["lang"])

    def sight(self) -> Sight:
        return Sight(self.data.qpos.copy(), self.model.site_rgba.copy())

    def flat_state(self) -> np.ndarray:
        """The simulation's state ``(s,)`` float64, as RoboCasa's files have it: time, positions and velocities."""
        return np.concatenate([[self.data.time], self.data.qpos, self.data.qvel])

    def measured(self, sight: Sight) -> dict[str, np.ndarray]:
        """What the robot measures of itself, by RoboCasa's names; quaternions are xyzw."""
        stage, robot = self._staged(sight), self.robot
        base, turn = stage.site_xpos[self._base].copy(), stage.site_xmat[self._base].reshape(3, 3)
        hand = np.array(stage.site_xpos[robot.eef_site_id["right"]])
        body = stage.xmat[self._hand].reshape(3, 3)
        return {
            "robot0_base_pos": base,
            "robot0_base_quat": mat2quat(turn),
            "robot0_base_to_eef_pos": turn.T @ (hand - base),
            "robot0_base_to_eef_quat": mat2quat(turn.T @ body),
            "robot0_eef_pos": hand,
            "robot0_eef_quat": mat2quat(body),
            "robot0_gripper_qpos": sight.positions[robot._ref_gripper_joint_pos_indexes["right"]],
            "robot0_joint_pos": sight.positions[robot._ref_arm_joint_pos_indexes],
        }

    def hash(self) -> str:
        """Hash of the physics and of everything in the model that can differ."""
        data = self.data
        digest = hashlib.sha256(self.flat_state().tobytes())
        for part in (data.act, data.ctrl, data.qacc_warmstart, data.qfrc_applied, data.xfrc_applied):
            digest.update(np.ascontiguousarray(part).tobytes())
        for name in dir(self.model):
            value = None if name.startswith(("_", *_CONSTANT)) else getattr(self.model, name)
            if isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).tobytes())
        digest.update(self.sentence().encode())
        return digest.hexdigest()

    def render(self, camera: str, sight: Sight) -> np.ndarray:
        """An upright picture ``(size, size, 3)`` uint8."""
        if self._picture is None:
            self._picture = mujoco_rendering.Picture(
                self.model, self.size, self.rendering, hidden=(_COLLISION_GEOMS,), maxgeom=_MOST_GEOMS
            )
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

    def close_picture(self) -> None:
        """Every reset makes another model."""
        if self._picture is not None:
            self._picture.close()
            self._picture = None

    def close(self) -> None:
        self.close_picture()
        self.env.close()
