"""Options of `uva`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import AnyDecoder, WhenActing, Window
from videopolicy.parts.options import Options
from vpolicy_uva.joint_options import UvaJointOptions
from vpolicy_uva.options import Mode


class UvaOptions(Options):
    """Options of `uva`, which says what its parts are by default.

    Args:
        joint: The model of video and actions.
        action: What turns the joint latent into actions: any decoder.
        modes: What training practises, drawn uniformly (section III-D): ``policy``, ``video``, ``forward`` and
            ``inverse`` dynamics, ``full`` dynamics (video and actions). UMI's configuration has policy and full; one
            that is listed twice is drawn twice as often. Windows without actions are practised as ``video`` anyway.
        modes_per: Whether the whole ``batch`` of a step practises one mode, over all devices that train together, as in
            the official code (whose processes draw from equal seeds), or the rows of every ``device`` one of their own,
            or every ``sample``.
        guidance: Of the instruction, when acting and predicting video; 1: none. The official code crashes at any other.
    """

    joint: UvaJointOptions
    action: AnyDecoder
    modes: tuple[Mode, ...] = Field(("video", "forward", "policy", "inverse", "full"), min_length=1)
    modes_per: Literal["batch", "device", "sample"] = "batch"
    guidance: Annotated[float, WhenActing()] = 1.0

    @model_validator(mode="after")
    def _fits(self) -> UvaOptions:
        filmed = dict.fromkeys(mode for mode in self.modes if mode in ("video", "forward", "full"))
        if self.joint.video is None and filmed:
            raise ValueError(f"modes {', '.join(filmed)} predict video, and joint.video is null")
        if self.guidance != 1 and self.joint.text is None:
            raise ValueError("guidance is of the instruction, and joint.text is null")
        if not any(mode in ("policy", "inverse", "full") for mode in self.modes):
            raise ValueError("none of the modes teaches actions; to train on video alone, target the joint model")
        return self

    def window(self) -> Window:
        frames = self.joint.window()
        horizon = max(self.joint.chunk, self.action.horizon)
        return Window(frames.observed, frames.future, horizon, frames.past_actions, frames.future_states)
