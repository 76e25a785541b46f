"""The policy on top of the joint model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from videopolicy import (
    ActionDecoder,
    Batch,
    Branch,
    FeatureLayout,
    Observation,
    Policy,
    RowGenerator,
    StaticStream,
    Window,
    of_first_process,
    to_device,
)
from vpolicy_uva.joint import JointModel, decayed, untouched
from vpolicy_uva.masking import MODES
from vpolicy_uva.options import Mode
from vpolicy_uva.policy_options import UvaOptions


class UvaPolicy(Policy):
    """See `vpolicy_uva.policy_options.UvaOptions` for the options and their sources.

    Args:
        options: Of the policy.
        joint: The model of video and actions.
        action: What turns its joint latent into actions.
        layout: Of the joint latent.
    """

    every_parameter_learns = True

    def __init__(self, options: UvaOptions, joint: JointModel, action: ActionDecoder, layout: FeatureLayout) -> None:
        super().__init__()
        self.options = options
        self.practises_inverse = "inverse" in options.modes
        self.joint = joint
        self.layout = layout
        self.action = action

    @property
    def window(self) -> Window:
        return self.options.window()

    @property
    def clip_offsets(self) -> tuple[int, ...]:
        """Offsets of the predicted frames; the present one is not among them."""
        return self.joint.clip_offsets

    @property
    def predicted_cameras(self) -> tuple[str, ...]:
        """The cameras whose future is predicted, in the order of the views."""
        return self.joint.predicted_cameras

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return decayed(self)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of the modes that are practised."""
        if batch.actions is None or batch.action_mask is None:
            raise ValueError("This policy is trained on actions; this batch has none. Train the joint model instead.")
        modes = self._draw(batch.action_mask.any(dim=1))
        conditioning, future = self.joint.practise(batch, modes)
        joint = self.joint.transformer(conditioning)
        losses: dict[str, Tensor] = {}
        filmed = torch.tensor([MODES[mode].video for mode in modes])
        acted = torch.tensor([MODES[mode].action for mode in modes])
        if filmed.any():
            of_rows = to_device(filmed, joint.device)
            losses["video"] = self.joint.video_loss(joint, conditioning, future, batch, of_rows)
        if acted.any():
            horizon = self.options.action.horizon
            counted = batch.action_mask[:, :horizon] & to_device(acted, joint.device)[:, None]
            stream = StaticStream(batch.observation, self.layout, [Branch(1.0, joint)])
            losses["action"] = self.action.loss(stream, batch.actions[:, :horizon], counted)
        losses |= self.joint.state_losses(joint, batch)
        name = next(iter(losses))
        return {**losses, name: losses[name] + untouched(self)}

    def _draw(self, acted: Tensor) -> list[Mode]:
        """The mode of every row; rows without any action ``(B,)`` teach the video model, where there is one."""
        modes, rows, per = self.options.modes, len(acted), self.options.modes_per
        count = rows if per == "sample" else 1
        indices = torch.randint(len(modes), (count,))
        if per == "batch":
            indices = of_first_process(indices, self.joint.transformer.fuse.weight.device)
        drawn = [modes[index] for index in indices.tolist()]
        drawn *= rows // count
        if self.options.joint.video is None:
            return drawn
        return [mode if there else "video" for mode, there in zip(drawn, acted.tolist(), strict=True)]

    @torch.no_grad()
    def act(self, observation: Observation, generator: RowGenerator) -> Tensor:
        conditioning = self.joint.seen(observation, generator)
        return self._actions(self.joint.branches(conditioning, self.options.guidance), observation, generator)

    @torch.no_grad()
    def infer_actions(
        self, frames: dict[str, Tensor], generator: RowGenerator, observation: Observation | None = None
    ) -> Tensor:
        """Inverse dynamics: normalised actions ``(B, H, A)`` that led through future frames.

        Args:
            frames: Per camera ``(B, F, 3, H, W)`` uint8, at the offsets ``clip_offsets``.
            generator: Noise of the rows.
            observation: The instruction, the state and the other cameras' history, where the model reads them; without
                an instruction the model is unconditional.

        Raises:
            RecipeError: The model needs an observation besides the frames.
        """
        conditioning = self.joint.inferred(frames, observation, generator)
        if observation is None:
            rows = len(conditioning.history)
            observation = Observation(frames, [""] * rows)
        return self._actions([(1.0, self.joint.transformer(conditioning))], observation, generator)

    def predict_video(
        self,
        observation: Observation,
        generator: RowGenerator,
        actions: Tensor | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Predicted frames, with the policy's own guidance where none is named; see
        `vpolicy_uva.joint.JointModel.predict_video`."""
        guidance = self.options.guidance if guidance is None else guidance
        return self.joint.predict_video(observation, generator, actions, steps, guidance)

    def _actions(
        self, branches: list[tuple[float, Tensor]], observation: Observation, generator: RowGenerator
    ) -> Tensor:
        weighted = [Branch(weight, joint) for weight, joint in branches]
        return self.action.sample(StaticStream(observation, self.layout, weighted), generator)
