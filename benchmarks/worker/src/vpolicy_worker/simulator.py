"""What a simulator has to offer."""

from __future__ import annotations

from typing import Any

import numpy as np


class Simulator:
    """Base class of all simulators.

    The constructor takes the keyword arguments that the benchmark put into ``WorkerSpec.config``.

    An *observation* is a mapping ``{"images": {camera: (height, width, 3) uint8}, "state": (S,) float32}``;
    images are upright RGB of every declared camera; ``state`` is finite, or None where none is declared.

    A (task, episode) pair fixes the initial state completely, whatever this process did before, and
    evaluation episodes never share an initial state with demonstration attempts.

    Every answer may carry ``seconds``, ``{"simulation": s, "rendering": s}``: where its time went. Where it does not,
    the worker measures the call and counts as rendering what was added to ``rendering_seconds`` in it.
    """

    rendering_seconds: float = 0.0
    """Seconds spent on rendering since this object was made; whoever renders adds to it."""

    def hello(self) -> dict[str, Any]:
        """Introduce the simulator.

        Returns:
            ``simulator`` (name), ``versions`` (package to version) and ``spaces`` (cameras, actions and state
            as a plain mapping, like ``videopolicy.Spaces.model_dump()``).
        """
        raise NotImplementedError

    def reset(self, task: str, episode: int, images: bool = True) -> dict[str, Any]:
        """Begin an evaluation episode.

        Args:
            task: Name of the task.
            episode: Index of the initial state.
            images: Whether to render the first observation; without, its ``images`` are empty.

        Returns:
            ``observation``, and ``initial_state``: a hexadecimal hash of the full simulator state. Where they differ
            from episode to episode ``instruction``, the sentence of this one; where an episode is a chain of sub-tasks
            ``subtasks``, the names of all of them in order.
        """
        raise NotImplementedError

    def step(self, actions: np.ndarray, frames: list[int]) -> dict[str, Any]:
        """Execute a chunk of actions, stopping early on success or at the task's step limit.

        Rendering is what costs, so only the requested observations are made.

        Args:
            actions: ``(n, A)`` float32 in the simulator's own units.
            frames: Which observations are wanted; k asks for the one after the k-th action, counted from 1.

        Returns:
            ``observations`` (by k, those that were reached), ``steps`` (actions executed: all of them unless the
            episode ended), ``success`` (whether the episode has succeeded so far, true or false), ``score`` (a finite
            number, higher is better, recorded as it is), ``done`` (whether it is over, true or false).

            ``instruction``, where there is another sentence from now on. Of a chain always ``solved``, the names of
            the sub-tasks solved so far. Where one of them ends and another begins the chunk ends too, with fewer
            ``steps`` than asked and without ``done``: then ``observation`` is what is seen there, and the policy
            starts over with it. What limits a sub-task is the simulator's business.
        """
        raise NotImplementedError

    def demonstrate(self, task: str, attempt: int, action_noise: float) -> dict[str, Any]:
        """Let the benchmark's own expert solve a task, from an initial state that no evaluation episode has.

        Args:
            task: Name of the task.
            attempt: Index of the initial state, in a range of its own.
            action_noise: Standard deviation of Gaussian noise on the executed (not the recorded) action, in
                units of the action bounds.

        Returns:
            ``images`` per camera ``(n, height, width, 3)`` uint8 and ``state`` ``(n, S)`` float32, each seen before
            the action of the same index, ``actions`` ``(n, A)`` floating point, ``initial_state``, ``success``. At most
            twice as many steps as the longest task has. An attempt that failed need not have been rendered: n may be 0.

            Optional: ``states`` ``(n, s)`` float64, the simulator's own states before every action; ``arrays``, what
            else was measured before every action, ``(n, d)`` floating point by its key in the episode of a file, such
            as ``robot_states`` or ``obs/joint_states``; together at most 2,048 numbers a step. ``facts``, names to
            texts, numbers and truth values: ``expert`` (``scripted`` where it is left out; never a human), and what
            a benchmark's own files say of an episode, such as ``bddl_file_name``. ``instruction``, the episode's
            sentence where it is not the task's.
        """
        raise NotImplementedError(f"{type(self).__name__} has no experts")

    def replay(self, task: str, attempt: int, states: np.ndarray, actions: np.ndarray) -> dict[str, Any]:
        """Say where things were in a demonstration, without simulating it again.

        A pose, here and in the next two, is a matrix ``(4, 4)`` float64 in the world's frame, in metres. ``frames``
        are those of objects, of their parts and of regions, by name, not of the robot; at most 500.

        Args:
            task: Name of the task.
            attempt: The one that was recorded.
            states: ``(n, s)`` float64, the simulator's states before every action.
            actions: ``(n, A)`` float32, as recorded.

        Returns:
            ``initial_state`` of the attempt, as `demonstrate` says it; ``hand`` ``(n, 4, 4)``; ``targets``
            ``(n, 4, 4)``, where every action sends the hand; ``gripper`` ``(n,)`` float64, what it asks of the
            gripper, above 0 to close; ``frames``, ``(n, 4, 4)`` each; ``success``, whether the task is solved in one
            of the states.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot replay")

    def guide(self, task: str, attempt: int) -> dict[str, Any]:
        """Begin a demonstration, from the same state as `demonstrate`, in which the core says where the hand goes.

        Returns:
            ``initial_state``, ``hand`` and ``frames``.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be guided")

    def follow(self, targets: np.ndarray, gripper: np.ndarray, noise: np.ndarray) -> dict[str, Any]:
        """Send the hand to one pose after the other, one a control step.

        Args:
            targets: ``(n, 4, 4)`` float64.
            gripper: ``(n,)`` float64, as `replay` has it.
            noise: ``(n, 6)`` float64, added to translation and rotation of the executed (not the recorded) action, in
                units of the action bounds.

        Returns:
            ``hand``, ``frames``, and ``done``: whether the demonstration is over, true or false; then the other targets
            were left out.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be guided")

    def recorded(self) -> dict[str, Any]:
        """What was recorded since `guide`; see `demonstrate`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be guided")

    def render(self, task: str, attempt: int, states: np.ndarray) -> dict[str, Any]:
        """Show a recorded demonstration as this configuration of the simulator sees it, without simulating it again.

        The recording may be from another version of the simulator; the scene is made as `demonstrate` makes it.

        Args:
            task: Name of the task.
            attempt: The one that was recorded.
            states: ``(n, s)`` float64, the simulator's states before every action.

        Returns:
            ``images`` per camera ``(n, height, width, 3)`` uint8, with the same renderer those that `demonstrate` had
            returned; ``initial_state`` of the attempt, as `demonstrate` says it; ``success``, whether the task is
            solved in one of the states.

        Raises:
            ValueError: The states are not those of the attempt's scene.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot render recorded states")

    def close(self) -> None:
        """Release what the simulator holds."""
