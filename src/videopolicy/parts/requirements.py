"""What a part needs from the spaces and from an observation, and what is said when that is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from videopolicy.errors import RecipeError
from videopolicy.spaces import Spaces

if TYPE_CHECKING:
    from torch import Tensor

    from videopolicy.types import Observation


def missing_state(part: str, on: bool, spaces: Spaces, off: str = "proprioception: false") -> list[str]:
    """For a component's ``check``: the sentence that there is no state for its proprioception, if that is so.

    Args:
        part: The component's name.
        on: Whether the option that needs the robot's state is on.
        spaces: What there is.
        off: The option, and what turns it off, as a recipe has it.
    """
    if not on or spaces.state is not None:
        return []
    return [f"{part} has {off.partition(':')[0]} on, but the spaces have no state; set {off}"]


def missing_cameras(part: str, spaces: Spaces) -> list[str]:
    """For a component's ``check``: the sentence that there is no camera at all, if that is so."""
    return [] if spaces.cameras else [f"{part} needs at least one camera, the spaces have none"]


def unknown_cameras(wanted: str, names: tuple[str, ...], spaces: Spaces) -> list[str]:
    """For a component's ``check``: the sentence that some cameras do not exist, if that is so.

    Args:
        wanted: What is done with them, such as ``my-model predicts view``.
        names: The cameras.
        spaces: What there is.
    """
    known = [camera.name for camera in spaces.cameras]
    unknown = [name for name in names if name not in known]
    return [f"{wanted} {', '.join(unknown)}, and the cameras are {', '.join(known)}"] if unknown else []


def required_state(observation: Observation, reader: str) -> Tensor:
    """The robot's state ``(B, T, S)``.

    Args:
        observation: What is seen.
        reader: Who reads it, as the first words of a sentence.

    Raises:
        RecipeError: The observation has none.
    """
    if observation.state is None:
        raise RecipeError(
            f"{reader} reads proprioception, but the observation has no state.",
            "Set `proprioception: false`, or use data and a benchmark with a state.",
        )
    return observation.state
