"""LIBERO behind the worker's protocol. Runs in the simulator's own environment only."""

from __future__ import annotations

import gc
import json
import zlib
from collections import OrderedDict
from importlib.metadata import version
from typing import Any

from vpolicy_worker import StepwiseSimulator, ensure_versions, mujoco_rendering

# isort: split
import guiding
import numpy as np
import replaying
from experts import EXPERTS
from poses import from_numbers, rotation_of, to_numbers
from recording import ARRAYS, Recording
from scene import Scene, Sight

EVALUATION, DEMONSTRATION = 0, 1
"""Last number of the seed, so that the two never share one."""

FIRST_RANDOM_RESET = 100_000
"""Seed of a random reset's first episode (Unified Video Action Model, ``test_start_seed``)."""

_KEPT_SCENES = 2
"""Models kept in memory, each with 0.2 (kitchen) to 1.1 GB (living room) of meshes and textures; making one takes a
processor 2 to 7 seconds."""


class LiberoSimulator(StepwiseSimulator):
    """The tasks of one suite.

    Args:
        suite: Name of the suite.
        cameras: Names of the model's cameras.
        image_size: Height and width in pixels.
        rendering: ``stock`` or ``fast``, see `vpolicy_worker.mujoco_rendering.Picture`.
        orientation: ``upright``, or ``mirrored``: robosuite's raw pictures turned by 180 degrees.
        actions: ``relative`` or ``absolute``.
        state: Which of `Scene.measured` a state is made of, in this order.
        max_steps: Steps after which an episode has failed.
        initial_states: ``stored``: episode i begins in the benchmark's state i. ``random``: drawn by LIBERO's reset.
        settling: How often which relative action (7,) is taken before an episode begins.
        demonstrations_from: First and last + 1 of the stored states from which demonstrations begin; None: from states
            drawn by LIBERO's reset.
        spaces: What the benchmark declares, sent back.
        versions: Packages that must have exactly these versions, because results depend on them.
    """

    def __init__(
        self,
        suite: str,
        cameras: list[str],
        image_size: int,
        rendering: str,
        orientation: str,
        actions: str,
        state: list[str],
        max_steps: int,
        initial_states: str,
        settling: tuple[int, list[float]],
        demonstrations_from: tuple[int, int] | None,
        spaces: dict[str, Any],
        versions: dict[str, str],
    ) -> None:
        ensure_versions(versions)
        self.suite = suite
        self.cameras = cameras
        self.image_size = image_size
        self.rendering = rendering
        self.orientation = orientation
        self.absolute = actions == "absolute"
        self.state = state
        self.max_steps = max_steps
        self.stored = initial_states == "stored"
        self.settling = (settling[0], np.asarray(settling[1]))
        self.demonstrations_from = demonstrations_from
        self.spaces = spaces
        self.versions = versions
        self._scenes: OrderedDict[str, Scene] = OrderedDict()
        self.backend, self._context = mujoco_rendering.open_context(image_size)

    def hello(self) -> dict[str, Any]:
        packages = dict.fromkeys([*self.versions, "numpy", "bddl"])
        return {
            "simulator": "libero",
            "versions": {package: version(package) for package in packages},
            "rendering": mujoco_rendering.renderer(self.backend),
            "conventions": {
                "orientation": self.orientation,
                "settling steps": self.settling[0],
                "settling action": self.settling[1].tolist(),
                "actions": "absolute" if self.absolute else "relative",
            },
            "spaces": self.spaces,
        }

    def reset(self, task: str, episode: int, images: bool = True) -> dict[str, Any]:
        """See `Simulator.reset`.

        Raises:
            ValueError: There is no such task, or fewer stored states.
        """
        if self.stored:
            self._begin(task, _seed(task, episode, EVALUATION), self._stored(task, episode))
        else:
            self._begin(task, FIRST_RANDOM_RESET + episode, None)
        self.scene.robot.controller.use_delta = not self.absolute  # settling actions are relative ones
        return {"observation": self.observe(images), "initial_state": self.scene.hash()}

    def demonstrate(self, task: str, attempt: int, action_noise: float) -> dict[str, Any]:
        """See `Simulator.demonstrate`; pictures are made afterwards, and only of what succeeded.

        Raises:
            ValueError: There is no such task, no expert for it, or fewer stored states.
        """
        if task not in EXPERTS:
            raise ValueError(f"there is no expert for '{task}', only for {', '.join(EXPERTS)}")
        seed = self._begin_demonstration(task, attempt)
        expert, noise = EXPERTS[task](self.scene.env), np.random.default_rng(seed)
        while not self.recording.over():
            # The gripper's sign alone counts, and noise on it would let things fall.
            self.recording.take(expert.action(), action_noise * np.append(noise.standard_normal(6), 0.0))
        return self.recorded()

    def replay(self, task: str, attempt: int, states: np.ndarray, actions: np.ndarray) -> dict[str, Any]:
        """See `Simulator.replay`.

        Raises:
            ValueError: There is no such task, or the states are those of another scene.
        """
        self._begin_demonstration(task, attempt)
        hands, targets, frames, success = [], [], [], False
        for state, action in zip(states, actions):
            success = replaying.put_back(self.scene, state) or success
            hands.append(guiding.hand(self.scene))
            targets.append(self._target(action))
            frames.append(guiding.frames(self.scene))
        return {
            "initial_state": self.recording.initial_state,
            "hand": np.stack(hands),
            "targets": np.stack(targets),
            "gripper": actions[:, -1].astype(np.float64),
            "frames": {name: np.stack([seen[name] for seen in frames]) for name in frames[0]},
            "success": success,
        }

    def render(self, task: str, attempt: int, states: np.ndarray) -> dict[str, Any]:
        """See `Simulator.render`.

        Raises:
            ValueError: There is no such task, or the states are those of another scene.
        """
        self._begin_demonstration(task, attempt)
        sights, success = replaying.sights(self.scene, states)
        return {
            "images": self._pictures(sights),
            "initial_state": self.recording.initial_state,
            "success": success,
        }

    def guide(self, task: str, attempt: int) -> dict[str, Any]:
        """See `Simulator.guide`.

        Raises:
            ValueError: There is no such task, or fewer stored states.
        """
        self._begin_demonstration(task, attempt)
        here = {"hand": guiding.hand(self.scene), "frames": guiding.frames(self.scene)}
        return {"initial_state": self.recording.initial_state, **here}

    def follow(self, targets: np.ndarray, gripper: np.ndarray, noise: np.ndarray) -> dict[str, Any]:
        """See `Simulator.follow`."""
        for target, closing, shift in zip(targets, gripper, noise):
            if self.recording.over():
                break
            self.recording.take(np.append(guiding.towards(self.scene, target), closing), np.append(shift, 0.0))
        here = {"hand": guiding.hand(self.scene), "frames": guiding.frames(self.scene)}
        return {**here, "done": self.recording.over()}

    def recorded(self) -> dict[str, Any]:
        """See `Simulator.recorded`; pictures are made here, and only of what succeeded."""
        kept = self.recording
        shown = kept.sights if kept.success else []
        count = len(shown)
        return {
            "images": self._pictures(shown),
            "state": np.stack([self._state(seen) for seen in kept.measured])[:count] if self.state else None,
            "states": np.stack(kept.states)[:count],
            "arrays": {key: np.stack([seen[name] for seen in kept.measured])[:count] for key, name in ARRAYS.items()},
            "actions": np.stack(kept.actions)[:count],
            "initial_state": kept.initial_state,
            "success": kept.success,
            "facts": self._facts(kept.task),
        }

    def close(self) -> None:
        while self._scenes:
            self._scenes.popitem()[1].close()

    def advance(self, action: np.ndarray) -> bool:
        if self.absolute:
            return self.scene.step(from_numbers(action, self.scene.rotation()))
        return self.scene.step(np.clip(action, -1, 1).astype(np.float64))

    def observe(self, images: bool = True) -> dict[str, Any]:
        pictures = {name: self._picture(name, self.scene.sight) for name in self.cameras} if images else {}
        return {"images": pictures, "state": self._state(self.scene.measured()) if self.state else None}

    def _scene(self, task: str) -> Scene:
        """The task's scene, made when it is not there; the one used longest ago makes room."""
        if task not in self._scenes:
            if len(self._scenes) == _KEPT_SCENES:
                self._scenes.popitem(last=False)[1].close()
                gc.collect()  # robosuite's objects refer to each other
            self._scenes[task] = Scene(self.suite, task, self.image_size, self.rendering)
        self._scenes.move_to_end(task)
        return self._scenes[task]

    def _stored(self, task: str, index: int) -> np.ndarray:
        states = self._scene(task).states
        if not 0 <= index < len(states):
            raise ValueError(f"'{task}' has {len(states)} stored initial states, there is no state {index}")
        return states[index]

    def _demonstration(self, task: str, attempt: int) -> tuple[list[int], np.ndarray | None]:
        """Seed and state from which a demonstration begins; a stored state is begun in as an evaluation would."""
        if self.demonstrations_from is None:
            return _seed(task, attempt, DEMONSTRATION), None
        first, end = self.demonstrations_from
        if not 0 <= attempt < end - first:
            raise ValueError(f"there is no attempt {attempt}: demonstrations begin in states {first} to {end - 1}")
        return _seed(task, first + attempt, EVALUATION), self._stored(task, first + attempt)

    def _begin_demonstration(self, task: str, attempt: int) -> list[int]:
        """Begin to record; returns the seed of what is drawn at random."""
        seed, state = self._demonstration(task, attempt)
        self._begin(task, seed, state)
        self.recording = Recording(task, self.scene, self.max_steps, self._declared)
        return seed

    def _begin(self, task: str, seed: int | list[int], state: np.ndarray | None) -> None:
        self.scene = self._scene(task)
        self.scene.reset(seed, state)
        steps, action = self.settling
        for _ in range(steps):
            self.scene.step(action)
        self.begin()

    def _declared(self, action: np.ndarray) -> np.ndarray:
        """A relative action in the benchmark's action space."""
        if not self.absolute:
            return action
        return to_numbers(*self.scene.goal(action), action[6]).astype(np.float32)

    def _target(self, action: np.ndarray) -> np.ndarray:
        """The pose ``(4, 4)`` to which an action of the benchmark's action space sends the hand."""
        pose = np.eye(4)
        if self.absolute:
            pose[:3, 3], pose[:3, :3] = action[:3], rotation_of(action, self.scene.rotation())
        else:
            pose[:3, 3], pose[:3, :3] = self.scene.goal(action)
        return pose

    def _state(self, measured: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([[], *(measured[key] for key in self.state)]).astype(np.float32)

    def _picture(self, camera: str, sight: Sight) -> np.ndarray:
        upright = self.scene.render(camera, sight)
        return np.ascontiguousarray(upright[:, ::-1]) if self.orientation == "mirrored" else upright

    def _pictures(self, sights: list[Sight]) -> dict[str, np.ndarray]:
        images = {name: np.empty((len(sights), self.image_size, self.image_size, 3), np.uint8) for name in self.cameras}
        for index, sight in enumerate(sights):
            for name in self.cameras:
                images[name][index] = self._picture(name, sight)
        return images

    def _facts(self, task: str) -> dict[str, Any]:
        """What LIBERO's own files say of an episode."""
        problem = self.scene.problem()
        return {
            "expert": "scripted",
            "bddl_file_name": f"{self.suite}/{task}.bddl",
            "bddl_file_content": self.scene.bddl.read_text(encoding="utf-8"),
            "env_name": type(self.scene.env).__name__,
            "problem_name": problem["problem_name"],
            "env_kwargs": json.dumps({"controller_configs": self.scene.controller()}),
        }


def check_rendering() -> str:
    """Render one picture for real, and say with what."""
    backend, _context = mujoco_rendering.open_context(64)
    return f"{mujoco_rendering.renderer(backend)} renders"


def _seed(task: str, index: int, stream: int) -> list[int]:
    """A seed that no other (task, index, stream) has."""
    return [zlib.crc32(task.encode()), index, stream]
