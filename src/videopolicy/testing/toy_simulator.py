"""A simulator of milliseconds: a white dot that must be moved onto the square of the named colour.

It is how the core is tested without a physics engine, misbehaviour included.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from vpolicy_worker import ChainSimulator, Subtask

COLORS = {"red": (255, 40, 40), "green": (40, 255, 40), "blue": (60, 60, 255), "yellow": (255, 255, 40)}
SPEED = 0.05
"""Distance (the arena is 1 wide) that one full action moves the dot."""
REACH = 0.1
"""Distance between dot and target below which the task is solved."""
KEPT_AFTER_SUCCESS = 2
SENTENCES = ("move the dot to the {} square", "go to where it is {}", "the {} square is the goal")
"""How a task may be said; the first is what the benchmark declares."""


class ToySimulator(ChainSimulator):
    """Colours are tasks; the squares' places and the dot's start depend on (task, episode) alone.

    Args:
        image_size: Height and width in pixels.
        action_dim: 2, or 4 with two dimensions that do nothing.
        max_steps: Steps after which an episode, or a sub-task of a chain, has failed.
        chain: Colours that an episode goes to one after the other, the first that of the task; 1: it ends there.
        rephrased: Whether the sentence changes from episode to episode.
        reset_seconds: What a reset takes, by episode, from the beginning again after the last.
        step_seconds: How long one action takes.
        stored: Number of initial states; None for any.
        demonstrations_from: First and last + 1 of those from which demonstrations begin; None for none.
        misbehaviour: ``dies_at``, ``hangs_at`` and ``raises_at`` as ``[episode, step]``; ``wrong_spaces``;
            ``once``: a file that is made at the first misbehaviour and prevents any further.
    """

    def __init__(
        self,
        image_size: int = 16,
        action_dim: int = 2,
        max_steps: int = 30,
        chain: int = 1,
        rephrased: bool = False,
        reset_seconds: Sequence[float] = (),
        step_seconds: float = 0.0,
        misbehaviour: dict[str, Any] | None = None,
        stored: int | None = None,
        demonstrations_from: tuple[int, int] | None = None,
    ) -> None:
        self.stored, self.demonstrations_from = stored, demonstrations_from
        self.image_size = image_size
        self.action_dim = action_dim
        self.subtask_steps, self.max_steps = max_steps, chain * max_steps
        self.links = chain
        self.rephrased = rephrased
        self.reset_seconds = reset_seconds
        self.step_seconds = step_seconds
        self.misbehaviour = misbehaviour or {}

    def hello(self) -> dict[str, Any]:
        size = 2 * self.image_size if self.misbehaviour.get("wrong_spaces") else self.image_size
        return {
            "simulator": "toy",
            "versions": {"numpy": np.__version__},
            "spaces": spaces(size, self.action_dim),
        }

    def reset(self, task: str, episode: int, images: bool = True) -> dict[str, Any]:
        if self.stored is not None and not 0 <= episode < self.stored:
            raise ValueError(f"there is no initial state {episode}, only 0 to {self.stored - 1}")
        self._place(task, 2 * episode)
        self.episode = episode
        if self.reset_seconds:
            time.sleep(self.reset_seconds[episode % len(self.reset_seconds)])
        answer = {"observation": self.observe(images), "initial_state": self._hash()}
        if self.links > 1:
            names = list(COLORS)
            first = names.index(task)
            order = [names[(first + link) % len(names)] for link in range(self.links)]
            links = [Subtask(name, self._sentence(name, episode), self.subtask_steps) for name in order]
            answer.update(self.begin_chain(links))
        elif self.rephrased:
            answer["instruction"] = self._sentence(task, episode)
        return answer

    def score(self) -> float:
        return super().score() if self.chain else float(1.0 - self._distance())

    def demonstrate(self, task: str, attempt: int, action_noise: float) -> dict[str, Any]:
        self.guide(task, attempt)
        while not self._shown():
            action = np.zeros(self.action_dim, np.float32)
            action[:2] = np.clip((self.targets[self.task] - self.dot) / SPEED, -1, 1)
            self._show(action, action_noise * self.random.standard_normal(self.action_dim))
        return self.recorded()

    def replay(self, task: str, attempt: int, states: np.ndarray, actions: np.ndarray) -> dict[str, Any]:
        self.guide(task, attempt)
        initial_state, hands, frames, success = self._hash(), [], [], False
        for state in states:
            success = self._put_back(state) or success
            hands.append(_pose(self.dot))
            frames.append(self._frames())
        targets = [_pose(hand[:2, 3] + SPEED * action[:2]) for hand, action in zip(hands, actions, strict=True)]
        return {
            "initial_state": initial_state,
            "hand": np.stack(hands),
            "targets": np.stack(targets),
            "gripper": np.zeros(len(actions)),
            "frames": {name: np.stack([seen[name] for seen in frames]) for name in COLORS},
            "success": success,
        }

    def render(self, task: str, attempt: int, states: np.ndarray) -> dict[str, Any]:
        self.guide(task, attempt)
        begun, success, seen = self._state(), False, []
        if len(states) and states[0].shape != begun.shape:
            raise ValueError(f"states have {len(states[0])} numbers, those of this scene {len(begun)}")
        for self.steps, state in enumerate(states):
            self._misbehave()
            success = self._put_back(state) or success
            seen.append(self._render())
        return {"images": {"top": np.stack(seen)}, "initial_state": self.begun, "success": success}

    def guide(self, task: str, attempt: int) -> dict[str, Any]:
        first, last = self.demonstrations_from or (0, 0)
        if self.demonstrations_from and attempt >= last - first:
            raise ValueError(f"demonstrations have {last - first} initial states, and attempt {attempt} needs another")
        self._place(task, 2 * (first + attempt) if self.demonstrations_from else 2 * attempt + 1)
        self.episode = attempt
        self.shown: list[tuple[dict[str, Any], np.ndarray, np.ndarray]] = []
        self.begun, self.left = self._hash(), KEPT_AFTER_SUCCESS
        return {"initial_state": self.begun, "hand": _pose(self.dot), "frames": self._frames()}

    def follow(self, targets: np.ndarray, gripper: np.ndarray, noise: np.ndarray) -> dict[str, Any]:
        for target, shift in zip(targets, noise, strict=True):
            if not self._shown():
                action = np.zeros(self.action_dim, np.float32)
                action[:2] = np.clip((target[:2, 3] - self.dot) / SPEED, -1, 1)
                self._show(action, np.resize(shift, self.action_dim))
        return {"hand": _pose(self.dot), "frames": self._frames(), "done": self._shown()}

    def recorded(self) -> dict[str, Any]:
        seen, actions, states = zip(*self.shown, strict=True)
        return {
            "images": {"top": np.stack([one["images"]["top"] for one in seen])},
            "state": np.stack([one["state"] for one in seen]),
            "actions": np.stack(actions),
            "initial_state": self.begun,
            # Every seventh attempt fails, as experts do.
            "success": bool(self.success and self.episode % 7 != 3),
            "states": np.stack(states),
            "facts": {"expert": "scripted", "color": self.task},
            **({"instruction": self._sentence(self.task, self.episode)} if self.rephrased else {}),
        }

    def _shown(self) -> bool:
        return self.steps >= self.subtask_steps or not self.left

    def _show(self, action: np.ndarray, noise: np.ndarray) -> None:
        self.shown.append((self.observe(), action, self._state()))
        self.take(np.clip(action + noise, -1, 1))
        self.left -= self.success

    def _frames(self) -> dict[str, np.ndarray]:
        return {name: _pose(place) for name, place in self.targets.items()}

    def _sentence(self, name: str, episode: int) -> str:
        return SENTENCES[episode % len(SENTENCES) if self.rephrased else 0].format(name)

    def _place(self, task: str, seed: int) -> None:
        if task not in COLORS:
            raise ValueError(f"there is no task '{task}'")
        self.task = task
        self.random = np.random.default_rng([zlib.crc32(task.encode()), seed])
        corners = np.array([[0.2, 0.2], [0.2, 0.8], [0.8, 0.2], [0.8, 0.8]])
        places = corners[self.random.permutation(4)] + self.random.uniform(-0.1, 0.1, (4, 2))
        self.targets = dict(zip(COLORS, places, strict=True))
        self.dot = self.random.uniform(0.42, 0.58, 2)
        self.begin()

    def advance(self, action: np.ndarray) -> bool:
        self._misbehave()
        if self.step_seconds:
            time.sleep(self.step_seconds)
        self.dot = np.clip(self.dot + SPEED * np.clip(action[:2], -1, 1), 0.0, 1.0)
        return self._distance() < REACH

    def _distance(self) -> float:
        target = self.subtask.name if self.chain else self.task
        return float(np.linalg.norm(self.targets[target] - self.dot))

    def _state(self) -> np.ndarray:
        """``(10,)`` float64: all that moves."""
        return np.concatenate([self.dot, *self.targets.values()])

    def _put_back(self, state: np.ndarray) -> bool:
        """Put everything where it was in a state, and return whether the task is solved there."""
        self.dot, self.targets = state[:2], dict(zip(COLORS, state[2:].reshape(-1, 2), strict=True))
        return bool(self._distance() < REACH)

    def _hash(self) -> str:
        return hashlib.sha256(self._state().tobytes()).hexdigest()

    def observe(self, images: bool = True) -> dict[str, Any]:
        state = self.dot.astype(np.float32)
        return {"images": {"top": self._render()} if images else {}, "state": state}

    def _render(self) -> np.ndarray:
        grid = (np.arange(self.image_size) + 0.5) / self.image_size
        image = np.zeros((self.image_size, self.image_size, 3), np.uint8)
        for name, place in self.targets.items():
            image[(abs(grid - place[1]) < 0.1)[:, None] & (abs(grid - place[0]) < 0.1)[None]] = COLORS[name]
        image[(abs(grid - self.dot[1]) < 0.06)[:, None] & (abs(grid - self.dot[0]) < 0.06)[None]] = 255
        return image

    def _misbehave(self) -> None:
        now = [self.episode, self.steps]
        wanted = [name for name in ("dies_at", "hangs_at", "raises_at") if self.misbehaviour.get(name) == now]
        once = self.misbehaviour.get("once")
        if not wanted or (once and Path(once).exists()):
            return
        if once:
            Path(once).touch()
        if wanted[0] == "dies_at":
            os._exit(3)
        if wanted[0] == "raises_at":
            raise FloatingPointError("the toy broke")
        time.sleep(3600)


def _pose(place: np.ndarray) -> np.ndarray:
    """A place ``(2,)`` as a pose ``(4, 4)``."""
    pose = np.eye(4)
    pose[:2, 3] = place
    return pose


def spaces(image_size: int, action_dim: int) -> dict[str, Any]:
    """What the toy offers, as a plain mapping like ``videopolicy.Spaces.model_dump()``."""
    names = ("x", "y", "idle_0", "idle_1")[:action_dim]
    return {
        "cameras": [{"name": "top", "height": image_size, "width": image_size}],
        "actions": {
            "names": list(names),
            "low": [-1.0] * action_dim,
            "high": [1.0] * action_dim,
            "control": "delta_position",
            "rate": 10.0,
        },
        "state": {"names": ["x", "y"]},
    }
