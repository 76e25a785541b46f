"""A policy that predicts a video and reads its actions out of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from videopolicy import (
    Batch,
    InfersActions,
    Observation,
    Policy,
    PredictsVideo,
    RecipeError,
    RowGenerator,
    Spaces,
    Window,
    listing,
)
from videopolicy.parts.narrowing import batch_for, observation_for
from vpolicy_unipi.options import UnipiOptions


class UnipiPolicy(Policy):
    """See `vpolicy_unipi.options.UnipiOptions` for the options.

    Raises:
        RecipeError: The video model predicts no video, or not of all cameras, or the other part infers no actions.
    """

    def __init__(self, options: UnipiOptions, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self.video: Any = options.video.build(spaces)
        self.inverse: Any = options.inverse.build(spaces)
        self.every_parameter_learns = self.video.every_parameter_learns and self.inverse.every_parameter_learns
        if not isinstance(self.video, PredictsVideo):
            raise RecipeError(
                f"policy.video: '{options.video.type}' does not predict video.", "Name a learner that does."
            )
        if not isinstance(self.inverse, InfersActions):
            raise RecipeError(
                f"policy.inverse: '{options.inverse.type}' infers no actions.", "Name 'inverse-dynamics', for example."
            )
        unseen = [camera.name for camera in spaces.cameras if camera.name not in self.video.predicted_cameras]
        if unseen:
            raise RecipeError(
                f"policy.video: '{options.video.type}' does not predict {listing(unseen)}, which inverse dynamics "
                "sees.",
                "Let it predict all cameras, or leave these out of the benchmark.",
            )

    @property
    def window(self) -> Window:
        return self.options.window()

    @property
    def clip_offsets(self) -> tuple[int, ...]:
        """Offsets of the predicted frames."""
        return self.video.clip_offsets

    @property
    def predicted_cameras(self) -> tuple[str, ...]:
        """The cameras whose future is predicted, in the order of the views."""
        return self.video.predicted_cameras

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [*self.video.parameter_groups(), *self.inverse.parameter_groups()]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of both parts on the same recorded windows, inverse dynamics on the first pair of each.

        Nothing is learned here that the parts do not learn alone, so stages usually train them one by one.
        """
        found: dict[str, Tensor] = {}
        for name, part in (("video", self.video), ("inverse", self.inverse)):
            losses = part.loss(batch_for(part.window, batch, self.window))
            found |= {f"{name}_{loss}" if len(losses) > 1 else name: value for loss, value in losses.items()}
        return found

    @torch.no_grad()
    def act(self, observation: Observation, generator: RowGenerator) -> Tensor:
        clip = self.predict_video(observation, generator)
        later = [t for t, offset in enumerate(self.clip_offsets) if offset > 0]
        frames = {name: clip[:, view, later] for view, name in enumerate(self.predicted_cameras)}
        return self.infer_actions(frames, generator, observation)

    @torch.no_grad()
    def infer_actions(
        self, frames: dict[str, Tensor], generator: RowGenerator, observation: Observation | None = None
    ) -> Tensor:
        """Normalised actions ``(B, H, A)`` that lead from the present through frames, pair by pair.

        The first pair begins with the frame that is seen, also where the model predicts the present one again.

        Args:
            frames: Per camera ``(B, F, 3, H, W)`` uint8, at the future offsets of `window`.
            generator: Noise of the rows.
            observation: The present.

        Raises:
            RecipeError: There is no observation.
        """
        seen = None if observation is None else observation_for(self.inverse.window, observation, self.window)
        return self.inverse.infer_actions(frames, generator, seen)

    @torch.no_grad()
    def predict_video(
        self,
        observation: Observation,
        generator: RowGenerator,
        actions: Tensor | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Predicted clip ``(B, V, T, 3, H, W)`` uint8, as the policy acts on it unless steps or guidance are named.

        Args:
            observation: What is seen.
            generator: Noise of the rows.
            actions: Of models that are conditioned on them; acting knows none.
            steps: Sampling steps; None: the option ``video_steps``.
            guidance: None: the option ``guidance``.
        """
        steps = self.options.video_steps if steps is None else steps
        seen = observation_for(self.video.window, observation, self.window)
        chosen = {} if steps is None else {"steps": steps}
        guidance = self.options.guidance if guidance is None else guidance
        return self.video.predict_video(seen, generator, actions=actions, guidance=guidance, **chosen)
