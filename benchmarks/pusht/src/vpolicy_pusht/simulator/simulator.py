"""PushT behind the worker's protocol. Runs in the simulator's own environment only."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from typing import Any

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import numpy as np
from expert import Expert
from gym_pusht.envs.pusht import PushTEnv
from pictures import Pictures
from vpolicy_worker import StepwiseSimulator, ensure_versions

FIRST_TEST_SEED = 100_000
"""Of Diffusion Policy's test episodes (``test_start_seed``)."""
FIRST_DEMONSTRATION_SEED = 2**31
"""Behind the seeds of all evaluation episodes; numpy's ``RandomState`` takes seeds below twice that."""
GOALS, OBJECTS, NOISE = 1, 2, 3
"""Random streams of an episode besides the one that draws its initial state."""
MIDDLE, GOAL_SPREAD = 256.0, 100.0
"""Of the plane, and how far from it random targets lie at most, in x and in y."""
KEPT_AFTER_SUCCESS = 10
"""Steps that a demonstration goes on after its success, so that chunks that begin shortly before it are whole."""
NOISE_UNIT = 256.0
"""What an action noise of 1 means: half of the range of the actions."""


class PushTSimulator(StepwiseSimulator):
    """PushT or PushT-M.

    Args:
        task: Name of the task.
        goals: ``fixed`` or ``random``.
        image_size: Height and width in pixels.
        background_color: Red, green and blue behind everything.
        background_objects: How many shapes lie in the background.
        goal_color: Of the target.
        max_steps: Steps after which an episode has failed.
        spaces: What the benchmark declares, sent back with the real action bounds put in.
        versions: Packages that must have exactly these versions, because results depend on them.
        conventions: What the benchmark says of its episodes, sent back.
    """

    def __init__(
        self,
        task: str,
        goals: str,
        image_size: int,
        background_color: list[int],
        background_objects: int,
        goal_color: list[int],
        max_steps: int,
        spaces: dict[str, Any],
        versions: dict[str, str],
        conventions: dict[str, str],
    ) -> None:
        ensure_versions(versions)
        self.task = task
        self.goals = goals
        self.max_steps = max_steps
        self.spaces = spaces
        self.conventions = conventions
        self.env = PushTEnv(obs_type="state")
        self.pictures = Pictures(image_size, background_color, background_objects, goal_color)
        self.best = 0.0

    def hello(self) -> dict[str, Any]:
        box = self.env.action_space
        actions = dict(self.spaces["actions"], low=box.low.tolist(), high=box.high.tolist())
        packages = ("gym-pusht", "pymunk", "pygame", "opencv-python", "shapely", "gymnasium", "numpy")
        return {
            "simulator": "pusht",
            "versions": {package: version(package) for package in packages},
            "rendering": _rendering(),
            "conventions": self.conventions,
            "spaces": dict(self.spaces, actions=actions),
        }

    def reset(self, task: str, episode: int, images: bool = True) -> dict[str, Any]:
        if not 0 <= episode < FIRST_DEMONSTRATION_SEED - FIRST_TEST_SEED:
            raise ValueError(f"there is no episode {episode}")
        self._begin(task, FIRST_TEST_SEED + episode)
        return {"observation": self.observe(images), "initial_state": self._hash()}

    def demonstrate(self, task: str, attempt: int, action_noise: float) -> dict[str, Any]:
        if not 0 <= attempt < FIRST_DEMONSTRATION_SEED:
            raise ValueError(f"there is no attempt {attempt}")
        seed = FIRST_DEMONSTRATION_SEED + attempt
        self._begin(task, seed)
        expert, noise = Expert(self.env.goal_pose, seed), np.random.default_rng([seed, NOISE])
        agent, block = self.env.agent, self.env.block
        initial_state, kept = self._hash(), KEPT_AFTER_SUCCESS
        observations, actions = [], []
        while self.steps < self.max_steps and kept:
            observations.append(self.observe())
            action = np.array(agent.position)  # it stays once the target is covered
            if not self.success:
                action = expert.action(action, np.array(agent.velocity), np.array([*block.position, block.angle]))
            action = np.clip(action, self.env.action_space.low, self.env.action_space.high).astype(np.float32)
            actions.append(action)
            self.take(action + action_noise * NOISE_UNIT * noise.standard_normal(2))
            kept -= self.success
        return {
            "images": {"image": np.stack([seen["images"]["image"] for seen in observations])},
            "state": np.stack([seen["state"] for seen in observations]),
            "actions": np.stack(actions),
            "initial_state": initial_state,
            "success": self.success,
            "facts": {"expert": "scripted", "goals": self.goals},
        }

    def _begin(self, task: str, seed: int) -> None:
        """Begin the episode of a seed with Diffusion Policy's initial state (its ``pusht_env.py``, `legacy`)."""
        if task != self.task:
            raise ValueError(f"there is no task '{task}'")
        draw = np.random.RandomState(seed)
        agent = [draw.randint(50, 450) for _ in range(2)]
        block = [draw.randint(100, 400) for _ in range(2)]
        state = [*agent, *block, draw.randn() * 2 * np.pi - np.pi]
        self.env.reset(seed=0, options={"reset_to_state": state})
        if self.goals == "random":
            goal = np.random.default_rng([seed, GOALS])
            x, y = goal.uniform(MIDDLE - GOAL_SPREAD, MIDDLE + GOAL_SPREAD, 2)
            self.env.goal_pose = np.array([x, y, goal.uniform(0, 2 * np.pi)])
        self.pictures.begin(np.random.default_rng([seed, OBJECTS]))
        self.best = 0.0
        self.begin()

    def advance(self, action: np.ndarray) -> bool:
        action = np.clip(action, self.env.action_space.low, self.env.action_space.high).astype(np.float64)
        _, reward, _, _, info = self.env.step(action)
        self.best = max(self.best, float(reward))
        return bool(info["is_success"])

    def score(self) -> float:
        return self.best

    def observe(self, images: bool = True) -> dict[str, Any]:
        """The picture, and where the finger is."""
        pictures = {"image": self.pictures.draw(self.env)} if images else {}
        return {"images": pictures, "state": np.array(self.env.agent.position, np.float32)}

    def _hash(self) -> str:
        """Hash of where finger, T and target are, and of how the first two move."""
        bodies = (self.env.agent, self.env.block)
        state = [[*body.position, body.angle, *body.velocity, body.angular_velocity] for body in bodies]
        return hashlib.sha256(np.array([*state[0], *state[1], *self.env.goal_pose], np.float64).tobytes()).hexdigest()


def _rendering() -> str:
    return f"pygame {version('pygame')} and OpenCV {version('opencv-python')} (software)"


def check_rendering() -> str:
    """Draw one picture for real, and say with what."""
    env = PushTEnv(obs_type="state")
    env.reset(seed=0)
    Pictures(96, (255, 255, 255), 0, (144, 238, 144)).draw(env)
    return f"{_rendering()} draws"
