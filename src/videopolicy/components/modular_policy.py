"""The network behind `videopolicy.components.modular.Modular`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from videopolicy.contracts.decoder import ActionDecoder
from videopolicy.contracts.extractor import CachesFeatures, FeatureExtractor
from videopolicy.contracts.policy import Policy
from videopolicy.types import Batch, Observation, RowGenerator, Window


class ModularPolicy(Policy):
    """Joins an extractor and a decoder.

    Args:
        extractor: Observations to a stream of features.
        decoder: A stream of features to actions.
        window: The frames of the extractor and the horizon of the decoder.
    """

    def __init__(self, extractor: FeatureExtractor, decoder: ActionDecoder, window: Window) -> None:
        super().__init__()
        self.extractor = extractor
        self.decoder = decoder
        self._window = window
        self.every_parameter_learns = extractor.every_parameter_learns and decoder.every_parameter_learns

    @property
    def window(self) -> Window:
        return self._window

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        if batch.actions is None or batch.action_mask is None:
            raise ValueError("A modular policy is trained on actions; this batch has none.")
        stream = self.extractor.stream(batch.observation, batch)
        action = self.decoder.loss(stream, batch.actions, batch.action_mask)
        return {"action": action, **stream.losses}

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        decoder = {"params": [parameter for parameter in self.decoder.parameters() if parameter.requires_grad]}
        return [*self.extractor.parameter_groups(), decoder]

    @torch.no_grad()
    def act(self, observation: Observation, generator: RowGenerator) -> Tensor:
        return self.decoder.sample(self.extractor.stream(observation, None, generator), generator)

    @property
    def features_are_frozen(self) -> bool:
        """Whether the extractor's frozen part can be computed once."""
        return isinstance(self.extractor, CachesFeatures) and self.extractor.features_are_frozen

    def frozen_features(self, observation: Observation, generator: RowGenerator | None) -> Tensor:
        """Output ``(B, ...)`` of the extractor's frozen part."""
        assert isinstance(self.extractor, CachesFeatures)
        return self.extractor.frozen_features(observation, generator)
