"""Options of `unipi` and `inverse-dynamics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from videopolicy import AnyLearner, WhenActing, Window
from videopolicy.parts.options import Options
from videopolicy.parts.weights import pretrained_folder

WEIGHTS = "model.safetensors"
"""The file of weights in the folders that timm writes."""

Positive = Annotated[int, Field(ge=1)]


class InverseDynamicsOptions(Options):
    """Options of `inverse-dynamics`: a ResNet that sees two frames and says what was done between them.

    Du et al. 2023 (arXiv 2302.00111) train a small network on pairs of real frames and their actions, apart from the
    video model. Li et al. 2025 (arXiv 2503.00200, section V-C) compare with "a model that processes two consecutive
    generated video frames using a pretrained ResNet-50 for the PushT and PushT-M tasks, and a ResNet-152 for the Tool
    Hang, Libero10, and Cup Arrangement". How the two frames enter it, the size of the pictures, the loss and the number
    of actions between two frames are said by neither, and no code was published. Here both frames of all cameras are
    stacked on the channels of the first layer, and the error is the mean square of the normalised actions.

    Args:
        model: Name of a convolutional network in timm.
        weights: Hub id or local folder with a safetensors file as timm writes it, such as
            ``timm/resnet50.tv_in1k``; the first layer's weights are repeated for every picture, and the classifier is
            left out. None: from scratch.
        image_size: Height and width to which pictures are brought, in pixels.
        gap: Control steps from one frame to the next, and so the number of actions that a pair gives. 1 is UniPi's own:
            one action for two adjacent frames.
    """

    model: str = "resnet50"
    weights: str | None = None
    image_size: tuple[Positive, Positive] = (224, 224)
    gap: int = Field(1, ge=1)

    def window(self) -> Window:
        return Window(future=(self.gap,), horizon=self.gap)

    def folder(self) -> Path | None:
        """The local folder with the weights, fetched where necessary; None from scratch.

        Raises:
            WeightsError: They cannot be had.
        """
        return None if self.weights is None else pretrained_folder(self.weights, f"timm's {self.model}", [WEIGHTS])


class UnipiOptions(Options):
    """Options of `unipi`.

    Args:
        video: What predicts video: a backbone such as `svd`, or another learner such as `uva-joint`. Its frames must
            follow each other at equal distances, and show all cameras.
        inverse: What reads the actions out of two consecutive frames: `inverse-dynamics`, or another learner that is an
            `InfersActions` over one pair; its window has one future frame.
        video_steps: Sampling steps of the video when acting and predicting; None: as many as the model takes by itself.
        guidance: Scale of classifier-free guidance of the video, 1 for none; None: as the model's options say. Du et
            al. 2023 guide by the sentence, and Li et al. 2025 do not say.
    """

    video: AnyLearner
    inverse: AnyLearner
    video_steps: Annotated[int | None, Field(ge=1), WhenActing()] = None
    guidance: Annotated[float | None, WhenActing()] = None

    def window(self) -> Window:
        """What the video model sees and predicts, with an action for every step up to its last frame."""
        video = self.video.window()
        last = video.future[-1] if video.future else 0
        return Window(video.observed, video.future, last, video.past_actions, video.future_states)
