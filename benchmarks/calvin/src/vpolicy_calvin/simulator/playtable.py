"""CALVIN's table: ``calvin_env`` as it is in a checkout, begun in the same state whatever it did before.

The checkout wants packages that do not install on a newer Python or that nothing here needs (gym, GitPython,
numpy-quaternion, OpenCV, tacto); what is imported of them is replaced before it is imported. Nothing in it is changed.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import sys
import tempfile
import types
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

PYTHON = (3, 11)
"""The only Python for which pybullet 3.2.7 has wheels and that the other packages still support."""
if sys.version_info[:2] != PYTHON:
    raise RuntimeError(
        "CALVIN's simulator needs Python 3.11, because pybullet 3.2.7 has no wheel for later ones; this is "
        f"{sys.version.split()[0]}. Point VPOLICY_CALVIN_PYTHON to a Python 3.11, or unset it."
    )

import hydra  # noqa: E402
import numpy as np  # noqa: E402
import pybullet  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from pybullet_utils.bullet_client import BulletClient  # noqa: E402

SOURCE = "VPOLICY_CALVIN_SOURCE"
"""The environment variable with the checkout."""
CAMERAS = {"rgb_static": "static", "rgb_gripper": "gripper"}
"""Files of ``conf/cameras/cameras`` by camera."""
RENDERINGS = {"egl": "EGL plugin", "tiny": "TinyRenderer (software)"}
SEED = 0
"""Of where blocks are put before they are put where an episode wants them."""
TABLE = "table"
"""What the scenes call their only fixed object."""
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "swiftshader", "software")


def _np_random(seed: int | None = None) -> tuple[np.random.Generator, Any]:
    sequence = np.random.SeedSequence(seed)
    return np.random.Generator(np.random.PCG64(sequence)), sequence.entropy


def _substitutes() -> dict[str, types.ModuleType]:
    """Modules that ``calvin_env`` imports and of which it uses next to nothing here."""
    names = ("gym", "gym.utils", "gym.utils.seeding", "git", "cv2", "quaternion")
    modules = {name: types.ModuleType(name) for name in names}
    gym, utils, seeding = modules["gym"], modules["gym.utils"], modules["gym.utils.seeding"]
    seeding.np_random = _np_random  # type: ignore[attr-defined]
    utils.seeding, gym.utils, gym.Env = seeding, utils, object  # type: ignore[attr-defined]
    return modules


def _import(source: Path) -> None:
    """Import the checkout, which stays as it is."""
    if not (source / "calvin_env").is_dir():
        raise RuntimeError(f"{SOURCE} is '{os.environ.get(SOURCE, '')}', which is no checkout of calvin_env")
    sys.dont_write_bytecode = True  # some of its modules are imported when a table is made
    for name, module in _substitutes().items():
        sys.modules.setdefault(name, module)
    if str(source) not in sys.path:
        sys.path.insert(0, str(source))
    environment = import_module("calvin_env.envs.play_table_env")
    import_module("calvin_env.envs.tasks")
    environment.get_git_commit_hash = lambda path: "unknown"  # it would look for a repository


class PlayTable:
    """One table with its robot. A process has one at a time: several of pybullet's calls name no client.

    Args:
        scene: ``A``, ``B``, ``C`` or ``D``.
        cameras: Names of `CAMERAS`.
        rendering: ``egl``: pybullet's OpenGL plugin, as the recordings were made. ``tiny``: its own rasterizer.
    """

    def __init__(self, scene: str, cameras: Sequence[str], rendering: str) -> None:
        source = Path(os.environ.get(SOURCE, "")).absolute()
        _import(source)
        conf = source / "conf"
        robot = OmegaConf.load(conf / "robot/panda.yaml")
        finger = OmegaConf.load(conf / "robot/panda_longer_finger.yaml")
        config = OmegaConf.create(
            {
                "data_path": str(source / "data"),
                "use_vr": False,
                "cameras": {
                    CAMERAS[name]: OmegaConf.load(conf / f"cameras/cameras/{CAMERAS[name]}.yaml") for name in cameras
                },
                "scene": OmegaConf.load(conf / f"scene/calvin_scene_{scene}.yaml"),
                "robot": OmegaConf.merge(robot, {key: finger[key] for key in finger if key != "defaults"}),
                "env": OmegaConf.load(conf / "env/play_table_env.yaml"),
            }
        )
        config.env.use_egl = rendering == "egl"
        with _printed() as printed:
            try:
                self.env = hydra.utils.instantiate(config.env, show_gui=False, use_vr=False, use_scene_info=True)
            except SystemExit:
                raise RuntimeError("pybullet's EGL plugin cannot be loaded here; set rendering: tiny") from None
        self.renderer = _renderer(rendering, printed())
        self.scene = scene
        self.surfaces = {name: np.array(box) for name, box in config.scene.surfaces.items()}
        self.blocks = tuple(obj.name for obj in self.env.scene.movable_objects)
        tasks = OmegaConf.load(conf / "tasks/new_playtable_tasks.yaml")
        self._oracle = sys.modules["calvin_env.envs.tasks"].Tasks(tasks.tasks)
        self._cameras = dict(zip(cameras, self.env.cameras))
        self.env.cameras = []  # the environment would render in every step, whoever looks
        self._client = {"physicsClientId": self.env.cid}
        for camera in (*cameras, *cameras):
            self.picture(camera)  # the first two of an OpenGL context have other shadows

    def reset(self, robot: np.ndarray, scene: np.ndarray) -> None:
        """Begin with ``robot_obs`` (15,) and ``scene_obs`` (24,), the latter with the blocks in this table's order."""
        # A saved state of the engine would leave it contacts of before, from which its solver begins.
        env = self.env
        env.seed(SEED)
        env.scene.np_random = env.np_random
        env.load()
        env.robot.gripper_action = 1
        env.reset(robot_obs=robot, scene_obs=scene)

    def step(self, action: np.ndarray) -> dict[str, Any]:
        """Take one relative action ``(7,)`` of 1/30 s, its gripper made exactly +-1; returns `info`."""
        action = np.array(action, np.float64)
        action[6] = 1.0 if action[6] > 0 else -1.0
        return self.env.step(action)[3]

    def info(self) -> dict[str, Any]:
        """What is where and touches what, as the oracle needs it."""
        return self.env.get_info()

    def solved(self, task: str, start: Mapping[str, Any], end: Mapping[str, Any]) -> bool:
        """Whether a task was done between two `info`."""
        return bool(self._oracle.get_task_info_for_set(start, end, {task}))

    def measured(self) -> tuple[np.ndarray, np.ndarray]:
        """``robot_obs`` (15,) and ``scene_obs`` (24,) float64."""
        seen = self.env.get_state_obs()
        return seen["robot_obs"], seen["scene_obs"]

    def target(self) -> tuple[np.ndarray, np.ndarray]:
        """Where relative actions have sent the gripper: position (3,) in metres, Euler angles (3,) in radians."""
        return np.array(self.env.robot.target_pos), np.array(self.env.robot.target_orn)

    def link(self, name: str) -> np.ndarray:
        """Where a link of the table is, ``(3,)`` in metres."""
        table = next(obj for obj in self.env.scene.fixed_objects if obj.name == TABLE)
        index = table.info_dict["links"][name]
        return np.array(pybullet.getLinkState(table.uid, index, computeForwardKinematics=True, **self._client)[4])

    def joint_limit(self, name: str) -> float:
        """The largest position of a door, a drawer or a switch, in metres."""
        parts = (*self.env.scene.doors, *self.env.scene.switches, *self.env.scene.buttons)
        part = next(part for part in parts if part.name == name)
        return float(pybullet.getJointInfo(part.uid, part.joint_index, **self._client)[9])

    def picture(self, camera: str) -> np.ndarray:
        """What a camera sees, ``(height, width, 3)`` uint8."""
        return np.ascontiguousarray(self._cameras[camera].render()[0].astype(np.uint8, copy=False))

    def hash(self) -> str:
        """Hash of the state of all bodies, of the lights and of the controller's target."""
        content = hashlib.sha256(self.env.scene.get_obs().tobytes())
        for body in range(pybullet.getNumBodies(**self._client)):
            uid = pybullet.getBodyUniqueId(body, **self._client)
            poses = [pybullet.getBasePositionAndOrientation(uid, **self._client)]
            poses += [pybullet.getBaseVelocity(uid, **self._client)]
            joints = range(pybullet.getNumJoints(uid, **self._client))
            poses += [pybullet.getJointState(uid, joint, **self._client)[:2] for joint in joints]
            content.update(repr(poses).encode())
        content.update(np.concatenate(self.target()).tobytes())
        return content.hexdigest()

    def close(self) -> None:
        """Disconnect, so that the process may have another table."""
        pybullet.disconnect(**self._client)
        # Both would disconnect once more when they are collected, and by then the number is the next table's.
        self.env.cid = -1
        if isinstance(self.env.p, BulletClient):
            self.env.p._client = -1


@contextmanager
def _printed() -> Iterator[Any]:
    """Collect what C++ code prints; yields a function that returns it. It is printed once more afterwards."""
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    kept, text = os.dup(1), ""
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            yield lambda: text
        finally:
            sys.stdout.flush()
            libc.fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
            file.seek(0)
            text = file.read().decode("utf-8", "replace")
            print(text)


def _renderer(rendering: str, printed: str) -> str:
    """What renders, with the graphics driver's name where it has printed one."""
    found = re.search(r"GL_RENDERER\s*=\s*(.+)", printed)
    if rendering == "tiny" or found is None:
        return RENDERINGS[rendering]
    name = found[1].strip()
    kind = "software" if any(word in name.lower() for word in _SOFTWARE) else "GPU"
    return f"{RENDERINGS[rendering]}, {name} ({kind})"
