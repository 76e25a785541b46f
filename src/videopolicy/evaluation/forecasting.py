"""The part of a policy that predicts video: which it is, what it is conditioned on, and asking it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videopolicy.contracts.checked import described, wrong
from videopolicy.contracts.learner import Learner
from videopolicy.contracts.policy import Policy
from videopolicy.types import Batch, RowGenerator, Window
from videopolicy.views import stack_views, to_bytes


@dataclass(frozen=True)
class Forecaster:
    """A video model and what it is conditioned on.

    Args:
        model: What the policy names as its video model.
        window: What is observed; the real frames at the offsets of the predicted ones; and the actions that the model
            is conditioned on: one of what actions do needs those that were executed, a policy predicts what itself
            would do.
        frames: Which of the model's frames lie in the future.
        cameras: Those that it predicts.
    """

    model: Any
    window: Window
    frames: list[int]
    cameras: tuple[str, ...]

    @classmethod
    def of(cls, policy: Policy) -> Forecaster | None:
        """None for a policy that predicts no video."""
        model = policy.video_model()
        offsets = model.clip_offsets if model is not None else ()
        frames = [t for t, offset in enumerate(offsets) if offset > 0]
        if model is None or not frames:
            return None
        own = (model if isinstance(model, Learner) else policy).window
        horizon = 0 if isinstance(model, Policy) else own.horizon
        window = Window(own.observed, tuple(offsets[t] for t in frames), horizon, own.past_actions)
        return cls(model, window, frames, tuple(model.predicted_cameras))

    @property
    def offsets(self) -> tuple[int, ...]:
        """Steps at which the model's frames stand, the present at 0."""
        return tuple(self.model.clip_offsets)

    def predict(self, batch: Batch, seeds: Sequence[int]) -> Tensor:
        """Predicted frames ``(B, V, T, 3, H, W)`` uint8 at the model's size, on the CPU.

        Args:
            batch: Observations and actions, scaled, on the model's device.
            seeds: Of the noise of every row.

        Raises:
            PluginError: The model returns something else than it declares.
        """
        noise = RowGenerator.from_seeds(list(seeds))
        clip = self.model.predict_video(batch.observation, noise, actions=batch.actions)
        leading = (len(batch), len(self.cameras), len(self.offsets), 3)
        if not (
            isinstance(clip, Tensor) and clip.dtype == torch.uint8 and clip.ndim == 6 and clip.shape[:4] == leading
        ):
            sizes = ", ".join(map(str, leading))
            expected = f"a tensor of shape ({sizes}, height, width) and type uint8: rows, views, frames, colours"
            wrong(self.model, "predict_video", described(clip), expected)
        return clip.cpu()

    def real(self, images: Mapping[str, Tensor], clip: Tensor) -> Tensor:
        """Real frames of the predicted cameras as ``(B, V, K, 3, H, W)`` uint8 at the size of a predicted clip.

        Args:
            images: By camera ``(B, K, 3, height, width)``.
            clip: What was predicted.
        """
        chosen = {name: images[name] for name in self.cameras}
        return to_bytes(stack_views(chosen, (int(clip.shape[-2]), int(clip.shape[-1]))))
