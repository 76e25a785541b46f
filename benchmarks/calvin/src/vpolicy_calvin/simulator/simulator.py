"""CALVIN behind the worker's protocol. Runs in the simulator's own environment only."""

from __future__ import annotations

import os
import zlib
from importlib.metadata import version
from typing import Any, Iterator

from vpolicy_worker import ChainSimulator, Subtask, ensure_versions

# isort: split
import chains
import numpy as np
from experts import SCRIPTS, Expert
from experts_motion import Hand, Pose
from playtable import PlayTable
from starts import Start, draw

TRIALS = 10
"""Initial states that are drawn for an episode until the experts have done what its task needs."""
EVALUATION, DEMONSTRATION, NOISE = 0, 1, 2
"""Last number of a seed, so that no two share one."""

EVALUATED_ON = "D"
"""The table of all evaluations."""

KEPT_AFTER_SUCCESS = 8
"""Steps that a demonstration goes on after its success, so that chunks that begin shortly before it are whole."""

RENDERING = "VPOLICY_CALVIN_RENDERING"
"""The environment variable that says what shall render where no simulator is made."""

CONVENTIONS = {
    "action": "relative, added to the controller's target; 1 is 2 cm and 0.05 rad",
    "gripper": "above 0 is made +1 (open), all else -1 (closed)",
    "image": "upright",
}


class CalvinSimulator(ChainSimulator):
    """Chains of tasks on one table, or single tasks.

    Args:
        chain: Name of the task whose episodes are the official chains.
        within: Only the chains all of whose tasks are among these are counted; empty for all.
        sentences: By task, those of the evaluation.
        taught: By task, those of demonstrations, one of which is drawn; empty: the same as in the evaluation.
        tables: On which tables demonstrations begin, one after the other.
        cameras: Names of cameras.
        rendering: ``egl`` or ``tiny``.
        steps_per_task: Steps within which a task must be solved.
        spaces: What the benchmark declares, sent back.
        versions: Packages that must have exactly these versions, because results depend on them.
        commit: Of ``calvin_env``.
    """

    def __init__(
        self,
        chain: str,
        within: list[str],
        sentences: dict[str, str],
        taught: dict[str, list[str]],
        tables: list[str],
        cameras: list[str],
        rendering: str,
        steps_per_task: int,
        spaces: dict[str, Any],
        versions: dict[str, str],
        commit: str,
    ) -> None:
        ensure_versions(versions)
        self.name = chain
        self.chains = [one for one in chains.chains() if not within or set(one.tasks) <= set(within)]
        self.sentences = sentences
        self.taught = taught
        self.tables = tables
        self.cameras = cameras
        self.rendering = rendering
        self.steps_per_task = steps_per_task
        self.spaces = spaces
        self.versions = versions
        self.commit = commit
        self.table = PlayTable(EVALUATED_ON, cameras, rendering)
        self.single = ""

    def hello(self) -> dict[str, Any]:
        packages = dict.fromkeys([*self.versions, "hydra-core", "omegaconf"])
        return {
            "simulator": "calvin",
            "versions": {"calvin_env": self.commit[:12], **{package: version(package) for package in packages}},
            "rendering": self.table.renderer,
            "conventions": {**CONVENTIONS, "blocks": list(self.table.blocks)},
            "spaces": self.spaces,
        }

    def reset(self, task: str, episode: int, images: bool = True) -> dict[str, Any]:
        """See `Simulator.reset`.

        Raises:
            ValueError: There is no such task or chain.
        """
        if task != self.name:
            self._begin(task, EVALUATED_ON, _seed(task, episode, EVALUATION))
            return {"observation": self.observe(images), "initial_state": self.table.hash()}
        if not 0 <= episode < len(self.chains):
            raise ValueError(f"there are {len(self.chains)} chains, there is no chain {episode}")
        state, tasks = self.chains[episode]
        self._use(EVALUATED_ON)
        self.table.reset(*chains.numbers(state))
        begun = self.begin_chain([Subtask(name, self.sentences[name], self.steps_per_task) for name in tasks])
        self.max_steps = self.steps_per_task * len(tasks)
        self.before = self.table.info()
        return {"observation": self.observe(images), "initial_state": self.table.hash(), **begun}

    def demonstrate(self, task: str, attempt: int, action_noise: float) -> dict[str, Any]:
        """See `Simulator.demonstrate`; an attempt that succeeds is repeated for the pictures.

        Raises:
            NotImplementedError: Whole chains are not demonstrated.
            ValueError: There is no such task, or no expert for it.
        """
        if task == self.name:
            raise NotImplementedError("chains are not demonstrated; their tasks are")
        if task not in SCRIPTS:
            raise ValueError(f"there is no expert for '{task}', only for {', '.join(SCRIPTS)}")
        scene, seed = self.tables[attempt % len(self.tables)], _seed(task, attempt, DEMONSTRATION)
        self._begin(task, scene, seed)
        expert, noise = Expert(self.table, task), np.random.default_rng([*seed, NOISE])
        initial_state, kept = self.table.hash(), KEPT_AFTER_SUCCESS
        actions, executed = [], []
        while self.steps < self.max_steps and kept and not (expert.finished and not self.success):
            action = expert.action().astype(np.float32)
            actions.append(action)
            # The gripper's sign alone counts, and noise on it would let things fall.
            executed.append(action + action_noise * np.append(noise.standard_normal(6), 0.0))
            self.take(executed[-1])
            kept -= self.success
        solved, seen = self.success, []
        if solved:
            self._begin(task, scene, seed)
            for action in executed:
                seen.append((self.observe()["images"], np.concatenate(self.table.measured())))
                self.table.step(action)
        states = np.array([state for _, state in seen]).reshape(-1, 39)
        poses = np.array([*(state[:6] for state in states[1:]), self.table.measured()[0][:6]])[: len(seen)]
        grippers = np.array(actions)[: len(seen), 6:]
        return {
            "images": {name: self._stacked(name, [images[name] for images, _ in seen]) for name in self.cameras},
            "state": states[:, :15].astype(np.float32),
            "actions": np.array(actions)[: len(seen)],
            # CALVIN's files have the pose of the next frame, and the gripper, as its absolute action.
            "arrays": {"absolute_actions": np.concatenate([poses.reshape(-1, 6), grippers], axis=1)},
            "states": states,
            "initial_state": initial_state,
            "success": solved,
            "instruction": self._taught(task, seed),
            "facts": {"expert": "scripted", "table": scene, "calvin_env": self.commit},
        }

    def close(self) -> None:
        self.table.close()

    def advance(self, action: np.ndarray) -> bool:
        after = self.table.step(action)
        solved = self.table.solved(self.subtask.name if self.chain else self.single, self.before, after)
        if solved and self.chain:
            self.before = after
        return solved

    def observe(self, images: bool = True) -> dict[str, Any]:
        pictures = {name: self.table.picture(name) for name in self.cameras} if images else {}
        return {"images": pictures, "state": self.table.measured()[0].astype(np.float32)}

    def _use(self, scene: str) -> None:
        """Have a table; another one takes the place of the one that is there."""
        if self.table.scene != scene:
            self.table.close()
            self.table = PlayTable(scene, self.cameras, self.rendering)

    def _begin(self, task: str, scene: str, seed: list[int]) -> None:
        """Begin a single task."""
        if task not in self.sentences:
            raise ValueError(f"there is no task '{task}'")
        self._use(scene)
        self.single, self.max_steps = task, self.steps_per_task
        for trial in range(TRIALS):
            start = draw(self.table, task, np.random.default_rng([*seed, trial]))
            self.table.reset(start.robot, start.scene)
            for action in _approach(self.table, start):
                self.table.step(action)
            if all(self._done(name) for name in start.before):
                break
        else:
            raise RuntimeError(f"the experts could not prepare '{task}' in {TRIALS} trials")
        self.begin()
        self.before = self.table.info()

    def _done(self, task: str) -> bool:
        """Let the expert do a task that has to be done before another one; returns whether it is solved."""
        before, expert = self.table.info(), Expert(self.table, task)
        for _ in range(self.steps_per_task):
            if expert.finished:
                break
            if self.table.solved(task, before, self.table.step(expert.action())):
                return True
        return False

    def _stacked(self, camera: str, pictures: list[np.ndarray]) -> np.ndarray:
        """Pictures of a camera as ``(n, height, width, 3)`` uint8."""
        declared = next(one for one in self.spaces["cameras"] if one["name"] == camera)
        return np.array(pictures, np.uint8).reshape(-1, declared["height"], declared["width"], 3)

    def _taught(self, task: str, seed: list[int]) -> str:
        wordings = self.taught.get(task, [self.sentences[task]])
        return wordings[np.random.default_rng(seed).integers(len(wordings))]


def _approach(table: PlayTable, start: Start) -> Iterator[np.ndarray]:
    """The actions that take the hand to where a task begins."""
    hand = Hand(table)
    hand.gripper = start.gripper
    x, y, z = start.hand
    return hand.move(Pose(float(x), float(y), float(z)), speed=1.0)


def _seed(task: str, index: int, stream: int) -> list[int]:
    """A seed that no other (task, index, stream) has."""
    return [zlib.crc32(task.encode()), index, stream]


def check_rendering() -> str:
    """Render one picture for real, and say with what."""
    table = PlayTable(EVALUATED_ON, ["rgb_static"], os.environ.get(RENDERING, "egl"))
    table.reset(*chains.numbers(chains.initial_states()[0]))
    if table.picture("rgb_static").std() < 1:
        raise RuntimeError(f"{table.renderer} renders empty pictures; set rendering: tiny")
    return f"{table.renderer} renders"
