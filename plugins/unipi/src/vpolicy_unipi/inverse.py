"""Inverse dynamics: the actions between two frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import timm
import torch
from safetensors import safe_open
from torch import Tensor

from videopolicy import (
    Batch,
    Learner,
    MeasuredPart,
    Observation,
    RecipeError,
    RowGenerator,
    Spaces,
    Window,
    did_you_mean,
    stack_views,
)
from videopolicy.parts.masks import masked_mean, without_masked
from videopolicy.parts.weights import ensure_no_differences, explain_loading, without_loading
from vpolicy_unipi.options import WEIGHTS, InverseDynamicsOptions


class InverseModel(Learner):
    """See `vpolicy_unipi.options.InverseDynamicsOptions` for the options and their sources.

    Args:
        options: Of the network.
        spaces: Cameras, all of which it sees, and actions.

    Raises:
        RecipeError: timm has no such network, or it takes no stacked pictures.
        WeightsError: The weights are unreachable or of another network.
    """

    every_parameter_learns = True
    measured_parts: ClassVar[Mapping[str, MeasuredPart]] = {"forward": "action loop"}
    mean: Tensor
    deviation: Tensor

    def __init__(self, options: InverseDynamicsOptions, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self.cameras = tuple(camera.name for camera in spaces.cameras)
        self.actions = spaces.actions.dim
        self.network: Any = _network(options, 6 * len(self.cameras), options.gap * self.actions)
        for name, key in (("mean", "mean"), ("deviation", "std")):
            values = torch.tensor(self.network.pretrained_cfg[key], device="cpu").view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    @property
    def window(self) -> Window:
        return self.options.window()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Mean square of the error of the normalised actions between the present frame and the one ``gap`` steps later.

        Actions past the end of an episode do not count; the frame there repeats the last one.
        """
        if batch.actions is None or batch.action_mask is None:
            raise ValueError("Inverse dynamics is trained on actions; this batch has none.")
        found = self(self._pairs(batch.observation.images, batch.future)[:, 0])
        error = (found - without_masked(batch.actions, batch.action_mask)).square()
        return {"inverse": masked_mean(error, batch.action_mask[..., None])}

    def forward(self, pairs: Tensor) -> Tensor:
        """Normalised actions ``(N, gap, A)`` between frames ``(N, 2, V, 3, H, W)`` in [-1, 1]."""
        scaled = ((pairs + 1) / 2 - self.mean) / self.deviation
        found: Tensor = self.network(scaled.flatten(1, 3))
        return found.unflatten(1, (self.options.gap, self.actions))

    def infer_actions(
        self, frames: dict[str, Tensor], generator: RowGenerator, observation: Observation | None = None
    ) -> Tensor:
        """Normalised actions ``(B, F gap, A)`` that led from the present through frames, ``gap`` steps apart each.

        Args:
            frames: Per camera ``(B, F, 3, H, W)`` uint8.
            generator: Not used: nothing is drawn.
            observation: Its last frame is the present one. The frames to come may be of another size.

        Raises:
            RecipeError: There is no observation.
        """
        if observation is None:
            raise RecipeError(
                "Inverse dynamics of pairs of frames sees the present one too, and there is no observation.",
                "Give the observation.",
            )
        pairs = self._pairs(observation.images, frames)
        return self(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2]).flatten(1, 2)

    def _pairs(self, seen: Mapping[str, Tensor], later: Mapping[str, Tensor]) -> Tensor:
        """Consecutive frames ``(B, F, 2, V, 3, H, W)``: the present and F later ones, of every camera uint8."""
        size = self.options.image_size
        present, future = (
            stack_views({name: images[name][:, first:] for name in self.cameras}, size)
            for images, first in ((seen, -1), (later, 0))
        )
        clip = torch.cat([present, future], dim=2).to(self.mean).transpose(1, 2)
        return torch.stack([clip[:, :-1], clip[:, 1:]], dim=2)


def _network(options: InverseDynamicsOptions, channels: int, outputs: int) -> Any:
    name = options.model
    if not timm.is_model(name):
        raise RecipeError(
            f"timm has no model '{name}'.",
            f"Names are listed by timm.list_models().{did_you_mean(name.partition('.')[0], timm.list_models())}",
        )
    arguments: dict[str, Any] = {"in_chans": channels, "num_classes": outputs}
    folder = None if without_loading() else options.folder()
    if folder is None:
        return timm.create_model(name, **arguments)
    with explain_loading(folder, f"timm's {name}", [WEIGHTS]):
        with safe_open(folder / WEIGHTS, "pt") as file:
            found = set(file.keys())
        overlay = {"file": str(folder / WEIGHTS)}
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
    # Networks whose classifier is another one timm loads without looking at the names.
    left_out = (f"{network.pretrained_cfg['classifier']}.", "num_batches_tracked")
    own, found = (
        {one for one in names if not (one.startswith(left_out[0]) or one.endswith(left_out[1]))}
        for names in (network.state_dict(), found)
    )
    ensure_no_differences(str(folder), sorted(own - found), sorted(found - own))
    return network
