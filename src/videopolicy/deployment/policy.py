"""A trained policy that is asked for actions in physical units, one robot at a time."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import torch

from videopolicy.contracts.policy import InfersActions
from videopolicy.deployment.inputs import (
    Images,
    batched,
    frames_checked,
    past_checked,
    sentence_checked,
    state_checked,
)
from videopolicy.errors import DataError, PluginError
from videopolicy.evaluation.acting import History, PolicyActor, Seen, last_actions, stack_observations
from videopolicy.evaluation.forecasting import Forecaster
from videopolicy.spaces import Spaces
from videopolicy.types import Batch, Observation, RowGenerator, Window


class PredictedVideo(NamedTuple):
    """The future that a policy expects.

    Args:
        frames: By camera ``(T, height, width, 3)`` uint8, at the size at which the model predicts.
        offsets: Steps from now at which the frames stand; the first may be 0.
    """

    frames: dict[str, np.ndarray]
    offsets: tuple[int, ...]


class DeployedPolicy:
    """A policy with its weights and its scaling.

    `act` plans a whole chunk from exactly the frames that it is given. `step` is called once for every control step,
    remembers what the policy needs to see again, and plans when a chunk is executed, as an evaluation does.

    Args:
        actor: The policy on its device, as the episode loop asks it.
        spaces: Cameras, state and actions of the benchmark that it was trained for.
        execute: Actions of a chunk that `step` executes before it plans again.
        name: Of its run.
        instructions: Sentences of the tasks that it was trained for.
    """

    def __init__(
        self, actor: PolicyActor, spaces: Spaces, execute: int, name: str, instructions: tuple[str, ...] = ()
    ) -> None:
        self.actor = actor
        self.spaces, self.execute, self.name, self.instructions = spaces, execute, name, instructions
        self.reset()

    @property
    def window(self) -> Window:
        """The frames and past actions that it sees, and how many actions it plans."""
        return self.actor.policy.window

    @property
    def horizon(self) -> int:
        """H, the number of actions of a chunk."""
        return self.window.horizon

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.actor.device

    def reset(self, seed: int = 0) -> None:
        """A new episode or a new task begins.

        Args:
            seed: Of all noise until the next `reset`: the same calls give the same actions again.
        """
        self._noise = RowGenerator.from_seeds([seed])
        self._history: History | None = None
        self._planned: deque[np.ndarray] = deque()
        self._executed: list[np.ndarray] = []
        self._sentence = ""
        self.actor.reset([0])

    def act(self, images: Images, state: Any = None, instruction: str = "", past_actions: Any = None) -> np.ndarray:
        """Plan from now on.

        Args:
            images: By camera ``(height, width, 3)`` RGB: bytes, or floating point numbers from 0 to 1. A policy whose
                `window` observes T > 1 frames is given ``(T, height, width, 3)``, the oldest first.
            state: ``(S,)`` or ``(T, S)`` in the benchmark's units, for policies with proprioception.
            instruction: What is to be done.
            past_actions: ``(P, A)`` for policies whose `window` has past actions; NaN, or None, where there were none.

        Returns:
            ``(H, A)`` float32 in the benchmark's units, within its bounds.

        Raises:
            DataError: Something has another name, shape or range than in training; the message says which.
        """
        seen = stack_observations([self.seen(images, state, instruction, past_actions)])
        return self.actor.act(seen, self._noise)[0]

    def step(self, images: Images, state: Any = None, instruction: str = "") -> np.ndarray:
        """The action of this control step, to be executed once before the next call.

        Another instruction than in the call before begins a new task: what was seen and planned is forgotten.

        Args:
            images, state, instruction: See `act`, of the present alone.

        Returns:
            ``(A,)`` float32.

        Raises:
            DataError: See `act`.
        """
        sentence = sentence_checked(instruction)
        if self._sentence and sentence != self._sentence:
            noise = self._noise
            self.reset()
            self._noise = noise
        self._sentence = sentence
        now: dict[str, Any] = {
            "images": {name: frames[0] for name, frames in frames_checked(images, self.spaces, 1).items()}
        }
        own = state_checked(state, self.spaces, 1)
        now["state"] = None if own is None else own[0]
        if self._history is None:
            self._history = History(self.window.observed, now)
        else:
            self._history.add(1, {1: now})
        if not self._planned:
            self._planned.extend(self._plan(self._history.observed(), sentence)[: self.execute])
        action = self._planned.popleft()
        self._executed = [*self._executed[-self.window.past_actions :], action] if self.window.past_actions else []
        return action

    def _plan(self, seen: list[dict[str, Any]], instruction: str) -> np.ndarray:
        images = {name: np.stack([one["images"][name] for one in seen]) for name in seen[0]["images"]}
        state = None if seen[0]["state"] is None else np.stack([one["state"] for one in seen])
        past, count = None, self.window.past_actions
        if count:
            executed = np.array(self._executed, np.float32).reshape(-1, self.spaces.actions.dim)
            past = last_actions(executed, count)
        return self.act(images, state, instruction, past)

    def predict_video(
        self, images: Images, state: Any = None, instruction: str = "", actions: Any = None, seed: int = 0
    ) -> PredictedVideo:
        """What the policy's video model expects to see.

        Args:
            images, state, instruction: See `act`.
            actions: ``(H, A)`` in the benchmark's units, for models that are conditioned on what will be done; None
                where it is not known.
            seed: Of the noise.

        Raises:
            PluginError: The policy predicts no video.
            DataError: See `act`.
        """
        forecaster = Forecaster.of(self.actor.policy)
        if forecaster is None:
            raise PluginError(
                f"The policy of '{self.name}' predicts no video.", "Load one whose method has a video model."
            )
        seen = self._scaled(self.seen(images, state, instruction))
        clip = forecaster.predict(Batch(seen, actions=self._conditions(actions)), [seed])
        views = zip(forecaster.cameras, clip[0], strict=True)
        return PredictedVideo({name: view.permute(0, 2, 3, 1).numpy() for name, view in views}, forecaster.offsets)

    def infer_actions(self, frames: Images, images: Images, state: Any = None, instruction: str = "") -> np.ndarray:
        """The actions that lead through frames.

        Args:
            frames: By camera ``(F, height, width, 3)``, at the future offsets of `window`.
            images, state, instruction: See `act`: of the present, from which the first action leads.

        Returns:
            ``(H, A)`` float32 in the benchmark's units.

        Raises:
            PluginError: The policy infers no actions.
            DataError: See `act`.
        """
        policy = self.actor.policy
        if not isinstance(policy, InfersActions):
            raise PluginError(
                f"The policy of '{self.name}' infers no actions from frames.",
                "Load one whose method has inverse dynamics.",
            )
        seen = self._scaled(self.seen(images, state, instruction))
        later = frames_checked(frames, self.spaces, len(self.window.future))
        clip = {name: batched(one).to(self.device) for name, one in later.items()}
        with torch.inference_mode():
            found = policy.infer_actions(clip, self._noise, seen)
        return self.actor.normalizer.physical(found.float())[0].cpu().numpy()

    def seen(self, images: Images, state: Any = None, instruction: str = "", past_actions: Any = None) -> Seen:
        """What a robot sees, checked against what the policy was trained on.

        Args:
            images, state, instruction, past_actions: See `act`.

        Raises:
            DataError: See `act`.
        """
        count = len(self.window.observed)
        if count > 1 and isinstance(images, dict) and any(np.ndim(one) == 3 for one in images.values()):
            raise DataError(
                f"The policy sees {count} frames, {list(self.window.observed)} steps from now, and one was given.",
                "Give (T, height, width, 3), the oldest first, or call `step` at every control step.",
            )
        frames = frames_checked(images, self.spaces, count)
        own = state_checked(state, self.spaces, count)
        sentence = sentence_checked(instruction)
        times = [
            {"images": {name: one[time] for name, one in frames.items()}, "state": None if own is None else own[time]}
            for time in range(count)
        ]
        return Seen(times, sentence, past_checked(past_actions, self.spaces, self.window))

    def _scaled(self, seen: Seen) -> Observation:
        return self.actor.normalizer.observation(stack_observations([seen]).to(self.device))

    def _conditions(self, actions: Any) -> torch.Tensor:
        """Normalised actions ``(1, H, A)``, NaN where none are known."""
        shape = (self.horizon, self.spaces.actions.dim)
        values = np.full(shape, np.nan, np.float32) if actions is None else np.asarray(actions, np.float32)
        if values.shape != shape:
            raise DataError(
                f"The actions have shape {tuple(values.shape)}, and {shape} is wanted: steps, dimensions.",
                "Give a whole chunk, NaN where nothing is known.",
            )
        scaling = self.actor.normalizer
        return (torch.from_numpy(values).to(self.device)[None] - scaling.action_shift) / scaling.action_scale
