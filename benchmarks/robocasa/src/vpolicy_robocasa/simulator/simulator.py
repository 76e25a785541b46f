"""RoboCasa behind the worker's protocol. Runs in the simulator's own environment only."""

from __future__ import annotations

import gc
import json
import zlib
from importlib.metadata import version
from typing import Any

from vpolicy_worker import StepwiseSimulator, ensure_versions, mujoco_rendering

# isort: split
import numpy as np
from experts import EXPERTS

EVALUATION, DEMONSTRATION = 0, 1
"""Last number of the seed, so that the two never share one."""

KEPT_AFTER_SUCCESS = 10
"""Steps that a demonstration goes on after its first success: the outcome is seen, and chunks that begin shortly
before it are whole."""


class RoboCasaSimulator(StepwiseSimulator):
    """RoboCasa's single-stage tasks.

    Args:
        cameras: Names of the model's cameras.
        image_size: Height and width in pixels.
        rendering: ``stock`` or ``fast``, see `vpolicy_worker.mujoco_rendering.Picture`.
        assets: ``official`` or ``stand-in``: which ones have to be there.
        split: Objects of evaluation episodes, ``A`` or ``B``; demonstrations have ``A``.
        scenes: (layout, style) of the kitchens; episode and attempt k are in the one of index k modulo their number.
        horizons: Steps after which an episode has failed, by task.
        state: Which of `Scene.measured` a state is made of, in this order.
        tail: What follows the arm's seven numbers in RoboCasa's actions.
        spaces: What the benchmark declares, sent back.
        versions: Packages that must have exactly these versions, because results depend on them.
        commit: Of RoboCasa.
    """

    def __init__(
        self,
        cameras: list[str],
        image_size: int,
        rendering: str,
        assets: str,
        split: str,
        scenes: list[list[int]],
        horizons: dict[str, int],
        state: list[str],
        tail: list[float],
        spaces: dict[str, Any],
        versions: dict[str, str],
        commit: str,
    ) -> None:
        ensure_versions(versions)
        import scene

        if assets != scene.KIND:
            raise RuntimeError(f"the recipe asks for {assets} assets, {scene.ASSETS} names {scene.KIND} ones")
        self._make = scene.Scene
        self.cameras = cameras
        self.image_size = image_size
        self.rendering = rendering
        self.assets = assets
        self.split = split
        self.kitchens = [(layout, style) for layout, style in scenes]
        self.horizons = horizons
        self.state = state
        self.tail = np.asarray(tail)
        self.spaces = spaces
        self.versions = versions
        self.commit = commit
        self.scene: Any = None
        self._made: tuple[str, str] | None = None
        self.backend, self._context = mujoco_rendering.open_context(image_size)

    def hello(self) -> dict[str, Any]:
        return {
            "simulator": "robocasa",
            "versions": {"robocasa": self.commit[:12], **{package: version(package) for package in self.versions}},
            "rendering": mujoco_rendering.renderer(self.backend),
            "conventions": {
                "images": "upright, not mirrored, after the last of 25 substeps",
                "action tail": self.tail.tolist(),
                "assets": self.assets,
            },
            "spaces": self.spaces,
        }

    def reset(self, task: str, episode: int, images: bool = True) -> dict[str, Any]:
        """See `Simulator.reset`.

        Raises:
            ValueError: There is no such task.
        """
        self._begin(task, episode, EVALUATION)
        return {
            "observation": self.observe(images),
            "initial_state": self.scene.hash(),
            "instruction": self.scene.sentence(),
        }

    def demonstrate(self, task: str, attempt: int, action_noise: float) -> dict[str, Any]:
        """See `Simulator.demonstrate`; pictures are made afterwards, and only of what succeeded.

        Raises:
            ValueError: There is no such task, or no expert for it.
        """
        if task not in EXPERTS:
            raise ValueError(f"there is no expert for '{task}', only for {', '.join(EXPERTS)}")
        self._begin(task, attempt, DEMONSTRATION)
        scene, initial_state = self.scene, self.scene.hash()
        facts, sentence, expert = self._facts(), scene.sentence(), EXPERTS[task](scene)
        noise, kept = np.random.default_rng(_seed(task, attempt, DEMONSTRATION)), KEPT_AFTER_SUCCESS
        states, sights, actions = [], [], []
        # What is solved before anything was done is not a demonstration.
        solvable = not scene.solved()
        while solvable and self.steps < self.max_steps and kept:
            states.append(scene.flat_state())
            sights.append(scene.sight())
            action = np.clip(expert.action(), -1, 1).astype(np.float32)
            actions.append(action)
            # The gripper's sign alone counts, and noise on it would let things fall.
            self.take(action + action_noise * np.append(noise.standard_normal(6), 0.0))
            kept -= self.success
        count = len(actions) if self.success else 0
        shown = sights[:count]
        measured = [scene.measured(sight) for sight in shown]
        return {
            "images": self._pictures(shown),
            "state": self._states(measured) if self.state else None,
            "states": np.array(states[:count], np.float64).reshape(count, scene.flat_state().size),
            "arrays": {f"obs/{key}": np.array([seen[key] for seen in measured]) for key in (measured or [{}])[0]},
            "actions": np.array(actions, np.float32).reshape(-1, 7)[:count],
            "initial_state": initial_state,
            "success": self.success,
            "facts": facts,
            "instruction": sentence,
        }

    def close(self) -> None:
        if self.scene is not None:
            self.scene.close()

    def advance(self, action: np.ndarray) -> bool:
        arm = np.clip(action, -1, 1).astype(np.float64)
        return self.scene.step(np.concatenate([arm, self.tail]))

    def observe(self, images: bool = True) -> dict[str, Any]:
        sight = self.scene.sight()
        pictures = {name: self.scene.render(name, sight) for name in self.cameras} if images else {}
        state = self._states([self.scene.measured(sight)])[0] if self.state else None
        return {"images": pictures, "state": state}

    def _begin(self, task: str, index: int, stream: int) -> None:
        split = self.split if stream == EVALUATION else "A"
        if self._made != (task, split):
            if task not in self.horizons:
                raise ValueError(f"there is no task '{task}', only {', '.join(self.horizons)}")
            if self.scene is not None:
                self.scene.close()
                self.scene = self._made = None
                gc.collect()  # robosuite's objects refer to each other
            self.scene = self._make(task, split, self.kitchens, self.image_size, self.rendering)
            self._made = (task, split)
        self.scene.reset(_seed(task, index, stream), self.kitchens[index % len(self.kitchens)])
        self.max_steps = self.horizons[task]
        self.begin()

    def _states(self, measured: list[dict[str, np.ndarray]]) -> np.ndarray:
        rows = [np.concatenate([seen[key] for key in self.state]) for seen in measured]
        return np.array(rows, np.float32).reshape(len(rows), len(self.spaces["state"]["names"]))

    def _pictures(self, sights: list[Any]) -> dict[str, np.ndarray]:
        images = {name: np.empty((len(sights), self.image_size, self.image_size, 3), np.uint8) for name in self.cameras}
        for index, sight in enumerate(sights):
            for name in self.cameras:
                images[name][index] = self.scene.render(name, sight)
        return images

    def _facts(self) -> dict[str, Any]:
        """What RoboCasa's own files say of an episode, and on which assets it was made."""
        meta = self.scene.env.get_ep_meta()
        return {
            "expert": "scripted",
            "assets": self.assets,
            "env_name": self.scene.task,
            "layout_id": int(meta["layout_id"]),
            "style_id": int(meta["style_id"]),
            "robocasa_ep_meta": json.dumps(meta, default=_plain),
            "model_file": self.scene.env.sim.model.get_xml(),
        }


def check_rendering() -> str:
    """Render one picture for real, and say with what."""
    backend, _context = mujoco_rendering.open_context(64)
    return f"{mujoco_rendering.renderer(backend)} renders"


def _seed(task: str, index: int, stream: int) -> list[int]:
    """A seed that no other (task, index, stream) has."""
    return [zlib.crc32(task.encode()), index, stream]


def _plain(value: Any) -> Any:
    """What JSON cannot hold: arrays as lists, anything else as text."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)
