"""What can be said of a sub-task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from videopolicy.parts.options import Options

Share = Annotated[float, Field(ge=0, le=1)]


class End(Options):
    """The signal at which a sub-task of a source ends: one of the two.

    Args:
        gripper: The first action that opens the gripper, or closes it; it still belongs to the sub-task.
        lifted: Metres by which the object is higher than where the sub-task began.
    """

    gripper: Literal["opens", "closes"] | None = None
    lifted: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one(self) -> End:
        if (self.gripper is None) == (self.lifted is None):
            raise ValueError("an end is one signal: `gripper: opens`, `gripper: closes` or `lifted: METRES`")
        return self


class SubTask(Options):
    """A part of a task in which the hand moves relative to one object.

    Args:
        object: Name of the object, part or region.
        end: Where it ends in a source; left out for the last one, which ends with the demonstration.
        offset: Fewest and most steps after ``end`` at which it is cut, drawn again for every attempt; they may be
            negative.
        selection: Which source it is taken from: any (``random``); one in which the object lay most like it lies now
            (``nearest-object``); one whose first pose, moved along, is nearest to the hand (``nearest-hand``).
        among: Of how many nearest ones one is drawn.
        noise: Standard deviation of Gaussian noise on translation and rotation of the executed actions, in units of the
            action bounds.
        interpolation: Steps from where the hand is to the first pose of the segment.
    """

    object: str
    end: End | None = None
    offset: tuple[int, int] = (0, 0)
    selection: Literal["random", "nearest-object", "nearest-hand"] = "random"
    among: int = Field(default=3, ge=1)
    noise: Share = 0.05
    interpolation: int = Field(default=5, ge=0, le=200)

    @field_validator("offset")
    @classmethod
    def _in_order(cls, offset: tuple[int, int]) -> tuple[int, int]:
        if offset[0] > offset[1]:
            raise ValueError(f"{list(offset)} is no range: write the fewest steps first")
        return offset
