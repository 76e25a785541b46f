"""CALVIN's simulators as one vector environment of gymnasium."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space

from videopolicy import BenchmarkComponent, DataError, SimulationError, Task
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.temporary import make_folder, remove_folder

PIXELS, AGENT_POS = "pixels", "agent_pos"
"""Of an observation, by LeRobot's names."""
Stepped = tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class CalvinEnvironments(gym.vector.VectorEnv[dict[str, Any], np.ndarray, np.ndarray]):
    """Simulators of one task, or of the chains, in processes of their own that run side by side.

    Where an episode is over its simulator rests, and repeats what it has said last without a reward, until all are
    reset: nothing begins by itself. A seed is the number of an episode: the same number is the same initial state for
    everybody, the number of an official chain modulo how many there are.

    Args:
        benchmark: CALVIN with its options.
        task: What its episodes are.
        count: Simulators, which start with the first reset.
    """

    metadata = {  # noqa: RUF012 -- gymnasium's own attribute
        "render_modes": ["rgb_array"],
        "render_fps": 30,
        "autoreset_mode": gym.vector.AutoresetMode.DISABLED,
    }
    render_mode = "rgb_array"

    def __init__(self, benchmark: BenchmarkComponent, task: Task, count: int) -> None:
        self.num_envs = count
        self._benchmark, self._task = benchmark, task
        self._spaces = spaces = benchmark.spaces()
        state = spaces.state
        assert state is not None  # CALVIN's arm says where it is
        pictures = {one.name: gym.spaces.Box(0, 255, (one.height, one.width, 3), np.uint8) for one in spaces.cameras}
        self.single_observation_space = gym.spaces.Dict(
            {
                PIXELS: gym.spaces.Dict(pictures),
                AGENT_POS: gym.spaces.Box(-np.inf, np.inf, (state.dim,), np.float32),
            }
        )
        self.single_action_space = gym.spaces.Box(
            np.array(spaces.actions.low, np.float32), np.array(spaces.actions.high, np.float32)
        )
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self._pool: WorkerPool | None = None
        self._logs: Path | None = None
        self._next = 0
        self._over = np.ones(count, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode in every simulator.

        Args:
            seed: Number of the episode of every simulator, or of the first, which the others' follow; None: those that
                come next.
            options: Not looked at.

        Returns:
            What is seen: ``pixels`` by camera ``(n, height, width, 3)`` uint8, ``agent_pos`` ``(n, 15)`` float32; and
            ``is_success``.

        Raises:
            SimulationError: A simulator cannot be started, or fails.
        """
        given = [None] * self.num_envs if seed is None else seed
        seeds = [given + row for row in range(self.num_envs)] if isinstance(given, int) else list(given)
        episodes = [self._next + row if one is None else int(one) for row, one in enumerate(seeds)]
        self._next = max(episodes) + 1
        stored = self._benchmark.stored_states()
        pool = self._started()
        for row, episode in enumerate(episodes):
            pool.send(row, "reset", task=self._task.name, episode=episode % stored if stored else episode)
        begun = self._answers(pool)
        self._seen = [begun[row]["observation"] for row in range(self.num_envs)]
        self._sentences = [begun[row].get("instruction", self._task.instruction) for row in range(self.num_envs)]
        self._scores = np.zeros(self.num_envs)
        self._solved, self._over = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        return self._observation(), {"is_success": self._solved.copy()}

    def step(self, actions: np.ndarray) -> Stepped:
        """Execute one action in every simulator whose episode is not over.

        Args:
            actions: ``(n, 7)``; they are cut to the bounds, as an evaluation of ours does.

        Returns:
            What is seen; how many tasks were solved by this action ``(n,)``; whether the episode has ended in success,
            and whether it has otherwise, both ``(n,)``; ``is_success``.

        Raises:
            DataError: An action is not finite, or the shape another one.
            SimulationError: A simulator fails.
        """
        space = self.single_action_space
        chosen = np.asarray(actions, np.float32)
        if chosen.shape != (self.num_envs, *space.shape) or not np.isfinite(chosen).all():
            raise DataError(
                f"The actions have shape {chosen.shape} or are not finite, and {(self.num_envs, *space.shape)} is "
                "wanted: simulators, dimensions.",
                "Give finite numbers, one row for every simulator.",
            )
        if self._pool is None:
            raise DataError("No episode has begun.", "Call `reset` first.")
        for row in np.flatnonzero(~self._over).tolist():
            action = np.clip(chosen[row], space.low, space.high)[None]
            self._pool.send(row, "step", actions=action, frames=[1])
        rewards = np.zeros(self.num_envs)
        for row, answer in self._answers(self._pool).items():
            self._seen[row] = answer["observations"][1]
            self._sentences[row] = answer.get("instruction", self._sentences[row])
            rewards[row] = answer["score"] - self._scores[row]
            self._scores[row] = answer["score"]
            self._solved[row], self._over[row] = answer["success"], answer["done"]
        failed = self._over & ~self._solved
        return self._observation(), rewards, self._over & self._solved, failed, {"is_success": self._solved.copy()}

    def render(self) -> tuple[np.ndarray, ...]:
        """What the camera over the table has seen last in every simulator."""
        first = self._spaces.cameras[0].name
        return tuple(one["images"][first] for one in self._seen)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """What LeRobot asks every environment of a vector for.

        Args:
            name: ``task``; ``task_description``, the sentence of now; ``_max_episode_steps``; ``render``.
            args, kwargs: Of other environments' methods.

        Raises:
            AttributeError: Something else is asked for.
        """
        if name == "render":
            return self.render()
        if name == "task_description":
            return tuple(self._sentences)
        known = {"task": self._task.name, "_max_episode_steps": self._task.max_steps}
        if name not in known:
            raise AttributeError(f"CALVIN's environments have no '{name}'")
        return (known[name],) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """See `call`."""
        return self.call(name)

    def close_extras(self, **kwargs: Any) -> None:
        """End all simulators."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._logs is not None:
            remove_folder(self._logs)
            self._logs = None

    def _started(self) -> WorkerPool:
        if self._pool is None:
            spec = self._benchmark.launch()
            python = interpreter(spec, say=logging.getLogger(__name__).info)
            self._logs = make_folder()
            self._pool = WorkerPool(spec, python, self.num_envs, self._logs, self._spaces)
            self._pool.ensure_started()
        return self._pool

    def _answers(self, pool: WorkerPool) -> dict[int, dict[str, Any]]:
        """Of all simulators that were called.

        Raises:
            SimulationError: One of them has failed; all are ended.
        """
        found: dict[int, Any] = {}
        while pool.outstanding:
            found |= dict(pool.wait())
        for answer in found.values():
            if isinstance(answer, SimulationError):
                self.close()
                raise answer
        return found

    def _observation(self) -> dict[str, Any]:
        pictures = {
            one.name: np.stack([seen["images"][one.name] for seen in self._seen]) for one in self._spaces.cameras
        }
        return {PIXELS: pictures, AGENT_POS: np.stack([seen["state"] for seen in self._seen]).astype(np.float32)}
