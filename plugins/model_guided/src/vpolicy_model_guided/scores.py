"""What makes a predicted future a good one: scores by which `model-guided` ranks chunks of actions."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import RecipeError
from videopolicy.parts.options import Options

if TYPE_CHECKING:
    from torch import Tensor

Byte = Annotated[int, Field(ge=0, le=255)]


class Score(Options):
    """Judges the last frame of a prediction.

    Args:
        view: Which of the predicted views is looked at, counted from 0.
    """

    view: int = Field(0, ge=0)

    def fetch(self) -> None:
        """Make sure that what is compared with is there.

        Raises:
            RecipeError: It is not.
        """

    def __call__(self, frames: Tensor) -> Tensor:
        """Scores ``(N,)`` of predictions ``(N, V, T, 3, H, W)`` uint8; the higher the better."""
        return self.judge(frames[:, self.view, -1])

    def judge(self, pictures: Tensor) -> Tensor:
        """Scores ``(N,)`` of pictures ``(N, 3, H, W)`` uint8."""
        raise NotImplementedError


class ColorDistance(Score):
    """Minus the distance in pixels between two things that are found by their colours (paper, section VII).

    Where a colour is not seen at all, the score is minus the diagonal of the picture, which nothing falls below.

    Args:
        color: Red, green and blue of the thing that is moved.
        to_color: Of the thing that it is moved to.
        to_point: Or a fixed place, x to the right and y down in pixels of the predicted frames.
        tolerance: How far a pixel may be off in every channel.
    """

    type: Literal["color-distance"] = "color-distance"
    color: tuple[Byte, Byte, Byte]
    to_color: tuple[Byte, Byte, Byte] | None = None
    to_point: tuple[float, float] | None = None
    tolerance: int = Field(40, ge=0, le=255)

    @model_validator(mode="after")
    def _one_target(self) -> ColorDistance:
        if (self.to_color is None) == (self.to_point is None):
            raise ValueError("color-distance needs either 'to_color' or 'to_point'")
        return self

    def judge(self, pictures: Tensor) -> Tensor:
        there, color = self._centre(pictures, self.color), self.to_color
        target = there.new_tensor(self.to_point) if color is None else self._centre(pictures, color)
        height, width = pictures.shape[-2:]
        return -(there - target).norm(dim=-1).nan_to_num(nan=(height**2 + width**2) ** 0.5)

    def _centre(self, pictures: Tensor, color: tuple[int, int, int]) -> Tensor:
        """Mean place ``(N, 2)`` as x and y of the pixels of a colour, NaN where there are none."""
        import torch

        wanted = torch.tensor(color, device=pictures.device).view(3, 1, 1)
        found = ((pictures.int() - wanted).abs() <= self.tolerance).all(dim=1).float()  # (N, H, W)
        rows, columns = (torch.arange(size, device=pictures.device) for size in found.shape[1:])
        x, y = (found * columns).sum((1, 2)), (found * rows[:, None]).sum((1, 2))
        return torch.stack([x, y], dim=1) / found.sum((1, 2))[:, None]


class GoalImage(Score):
    """Minus the mean squared error to a picture of what is wanted, pixels between 0 and 1.

    The last predicted frame is compared, so the prediction should reach far enough for right and wrong to look
    different.

    Args:
        path: A picture file.
    """

    type: Literal["goal-image"] = "goal-image"
    path: Path

    def fetch(self) -> None:
        if not self.path.is_file():
            raise RecipeError(
                f"score.path: there is no picture {self.path}.",
                "Name a picture file; relative paths start where the command is run.",
            )

    def judge(self, pictures: Tensor) -> Tensor:
        self.fetch()
        height, width = pictures.shape[-2:]
        goal = _picture(self.path, int(height), int(width)).to(pictures.device)
        return -((pictures.float() - goal) / 255).square().mean((1, 2, 3))


@lru_cache(maxsize=4)
def _picture(path: Path, height: int, width: int) -> Tensor:
    """A picture file as ``(3, height, width)``, pixels from 0 to 255."""
    from PIL import Image
    from torchvision.transforms.v2 import functional as transforms

    try:
        with Image.open(path) as file:
            picture = transforms.pil_to_tensor(file.convert("RGB"))
    except OSError as error:
        raise RecipeError(
            f"score.path: {path} cannot be read: {error}.", "Name a picture in a common format, such as PNG."
        ) from None
    return transforms.resize(picture, [height, width], antialias=True).float()
