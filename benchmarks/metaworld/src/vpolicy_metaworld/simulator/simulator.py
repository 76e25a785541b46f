"""MetaWorld v3 behind the worker's protocol. Runs in the simulator's own environment only."""

from __future__ import annotations

import copy
import hashlib
import zlib
from collections import OrderedDict
from importlib.metadata import version
from typing import Any

# First: MuJoCo opens no context of its own then.
from vpolicy_worker import StepwiseSimulator, ensure_versions, mujoco_rendering

# isort: split
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

EVALUATION, DEMONSTRATION = 0, 1
"""Lowest bit of the seed, so that the two never share one."""

UPSIDE_DOWN = ("corner", "corner2", "corner3", "corner4")
"""Cameras that are mounted upside down."""

KEPT_AFTER_SUCCESS = 10
"""Steps that a demonstration goes on after its first success: the outcome is seen, and chunks that begin shortly
before it are whole."""

_KEPT_SCENES = 6
"""Models kept in memory, each about 50 MB with its textures; constructing one takes half a second."""

_CONSTANT = ("mesh", "tex", "skin", "hfield", "bvh", "name", "text", "paths")
"""Prefixes of the large arrays of a model that no environment changes."""


class MetaWorldSimulator(StepwiseSimulator):
    """All 50 tasks of MetaWorld v3.

    Args:
        cameras: Names of the model's cameras.
        image_size: Height and width in pixels.
        rendering: ``stock`` or ``fast``, see `vpolicy_worker.mujoco_rendering.Picture`.
        max_steps: Steps after which an episode has failed; MetaWorld itself allows 500.
        spaces: What the benchmark declares, sent back with the real action bounds and camera names put in.
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
        self._scenes: OrderedDict[str, Scene] = OrderedDict()

    def hello(self) -> dict[str, Any]:
        scene = self._scene("reach-v3")
        names = [scene.env.model.camera(index).name for index in range(scene.env.model.ncam)]
        cameras = [camera for camera in self.spaces["cameras"] if camera["name"] in names]
        box = scene.env.action_space
        actions = dict(self.spaces["actions"], low=box.low.tolist(), high=box.high.tolist())
        packages = ("metaworld", "mujoco", "gymnasium", "numpy")
        return {
            "simulator": "metaworld",
            "versions": {package: version(package) for package in packages},
            "rendering": mujoco_rendering.renderer(self.backend),
            "spaces": dict(self.spaces, cameras=cameras, actions=actions),
        }

    def reset(self, task: str, episode: int, images: bool = True) -> dict[str, Any]:
        self._begin(task, episode, EVALUATION)
        return {"observation": self.observe(images), "initial_state": self.scene.hash()}

    def demonstrate(self, task: str, attempt: int, action_noise: float) -> dict[str, Any]:
        expert = ENV_POLICY_MAP[task]()
        self._begin(task, attempt, DEMONSTRATION)
        noise = np.random.default_rng(_seed(task, attempt, DEMONSTRATION))
        initial_state, kept = self.scene.hash(), KEPT_AFTER_SUCCESS
        observations, actions = [], []
        while self.steps < self.max_steps and kept:
            observations.append(self.observe())
            action = np.clip(expert.get_action(self.full_state), -1, 1).astype(np.float32)
            actions.append(action)
            self.take(action + action_noise * noise.standard_normal(4))
            kept -= self.success
        return {
            "images": {name: np.stack([seen["images"][name] for seen in observations]) for name in self.cameras},
            "state": np.stack([seen["state"] for seen in observations]),
            "actions": np.stack(actions),
            "initial_state": initial_state,
            "success": self.success,
        }

    def close(self) -> None:
        while self._scenes:
            self._scenes.popitem()[1].close()

    def _scene(self, task: str) -> Scene:
        """The task's scene, made when it is not there; the one used longest ago makes room."""
        if task not in ALL_V3_ENVIRONMENTS:
            raise ValueError(f"there is no task '{task}'")
        if self._context is None:
            self.backend, self._context = mujoco_rendering.open_context(self.image_size)
        if task not in self._scenes:
            if len(self._scenes) == _KEPT_SCENES:
                self._scenes.popitem(last=False)[1].close()
            self._scenes[task] = Scene(task, self.image_size, self.rendering)
        self._scenes.move_to_end(task)
        return self._scenes[task]

    def _begin(self, task: str, index: int, stream: int) -> None:
        self.scene = self._scene(task)
        self.full_state = self.scene.reset(_seed(task, index, stream))
        self.begin()

    def advance(self, action: np.ndarray) -> bool:
        self.full_state, _, _, _, info = self.scene.env.step(np.clip(action, -1, 1).astype(np.float32))
        return bool(info["success"])  # it may flicker: any step counts

    def observe(self, images: bool = True) -> dict[str, Any]:
        """Pictures, and of the full state only what the robot measures of itself: hand and gripper."""
        pictures = {name: self.scene.render(name) for name in self.cameras} if images else {}
        return {"images": pictures, "state": self.full_state[:4].astype(np.float32)}


class Scene:
    """One task's environment, which begins every episode as if it had just been made.

    MetaWorld's environments leave traces of an episode in the model (where bodies stand) and in their own
    attributes, and their first, discarded reset simulates from there. Everything that is not constant is
    therefore put back before every reset.
    """

    def __init__(self, task: str, size: int, rendering: str) -> None:
        # The class itself: MetaWorld's `MT1` would draw fifty goals that nobody needs.
        self.env = env = ALL_V3_ENVIRONMENTS[task]()
        env._set_task_called = True
        env._freeze_rand_vec = False
        env.seeded_rand_vec = True
        # The experts need the goal in the full state; the policy never sees that state.
        env._partially_observable = False
        del env.sawyer_observation_space  # cached with bounds that would clip the goal to zero
        self._picture = mujoco_rendering.Picture(env.model, size, rendering)
        self._arrays = {
            name: value.copy()
            for name in dir(env.model)
            if not name.startswith(("_", *_CONSTANT)) and isinstance(value := getattr(env.model, name), np.ndarray)
        }
        self._live = {name: value for name, value in vars(env).items() if _belongs_to_mujoco(value)}
        self._attributes = {name: value for name, value in vars(env).items() if name not in self._live}
        self._attributes = copy.deepcopy(self._attributes)

    def reset(self, seed: int) -> np.ndarray:
        """Begin the episode of a seed, and return the full state."""
        env = self.env
        for name, value in self._arrays.items():
            getattr(env.model, name)[...] = value
        mujoco.mj_resetData(env.model, env.data)
        mujoco.mj_forward(env.model, env.data)
        vars(env).clear()
        vars(env).update(self._live, **copy.deepcopy(self._attributes))
        env.seed(seed)
        state, _ = env.reset()
        # Some tasks place their goal marker last: bring it into the first picture.
        mujoco.mj_kinematics(env.model, env.data)
        return state

    def hash(self) -> str:
        """Hash of the physics state and of everything in the model that can change."""
        model, data = self.env.model, self.env.data
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(model, kind))
        mujoco.mj_getState(model, data, physics, kind)
        digest = hashlib.sha256(physics.tobytes())
        for name in self._arrays:
            digest.update(getattr(model, name).tobytes())
        digest.update(np.asarray(self.env._target_pos, np.float64).tobytes())
        return digest.hexdigest()

    def render(self, camera: str) -> np.ndarray:
        return self._picture.render(self.env.data, camera, turned=camera in UPSIDE_DOWN)

    def close(self) -> None:
        self._picture.close()
        self.env.close()


def check_rendering() -> str:
    """Render one picture for real, and say with what."""
    backend, _ = mujoco_rendering.open_context(64)
    return f"{backend} renders"


def _belongs_to_mujoco(value: Any) -> bool:
    """Whether a value is MuJoCo's own, or an array that is a window into its memory."""
    if isinstance(value, np.ndarray):
        while isinstance(value, np.ndarray) and value.base is not None:
            value = value.base
        return not isinstance(value, np.ndarray)
    return type(value).__module__.startswith("mujoco") or type(value).__name__ == "MujocoRenderer"


def _seed(task: str, index: int, stream: int) -> int:
    """A seed that no other (task, index, stream) has."""
    return zlib.crc32(task.encode()) << 40 | index << 1 | stream
