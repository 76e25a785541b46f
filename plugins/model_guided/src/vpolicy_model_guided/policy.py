"""Chunks of actions chosen by what a video model says of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from videopolicy import Batch, Observation, Policy, PredictsVideo, RecipeError, RowGenerator, Spaces, Window
from videopolicy.parts.narrowing import batch_for, observation_for
from vpolicy_model_guided.options import ModelGuidedOptions

_SEEDS = 2**62


class GuidedPolicy(Policy):
    """See `vpolicy_model_guided.options.ModelGuidedOptions` for the options.

    Every row draws the seeds of its candidates from its own generator, so that neither the other rows nor the size
    of the slices can reach them. All candidates of a row are predicted with the same noise: what differs between
    their frames is then due to their actions.
    """

    def __init__(self, options: ModelGuidedOptions, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self.dynamics: Any = options.dynamics.build(spaces)
        self.proposer = options.proposer.build(spaces)
        if not isinstance(self.dynamics, PredictsVideo):
            raise RecipeError(
                f"policy.dynamics: '{options.dynamics.type}' does not predict video.",
                "Name a learner that does, such as 'uva'.",
            )

    @property
    def window(self) -> Window:
        return self.options.window()

    def video_model(self) -> PredictsVideo:
        """The dynamics model, also where the proposer predicts video as well."""
        return self.dynamics

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [*self.proposer.parameter_groups(), *self.dynamics.parameter_groups()]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of both parts on the same windows, each under the part's name.

        Nothing else is learned here, so stages usually train the parts one by one.
        """
        found: dict[str, Tensor] = {}
        for name, part in (("proposer", self.proposer), ("dynamics", self.dynamics)):
            losses = part.loss(batch_for(part.window, batch, self.window))
            found |= {f"{name}_{loss}": value for loss, value in losses.items()}
        return found

    @torch.no_grad()
    def act(self, observation: Observation, generator: RowGenerator) -> Tensor:
        rows, samples = len(observation), self.options.samples
        proposing, predicting = _seeds(generator, samples)
        seen = observation_for(self.proposer.window, observation, self.window)
        if samples == 1:
            return self.proposer.act(seen, RowGenerator.from_seeds(proposing))
        chunks, scores = [], []
        shown = observation_for(self.dynamics.window, observation, self.window)
        for first in range(0, rows * samples, self.options.batch):
            candidates = range(first, min(first + self.options.batch, rows * samples))
            row = [one // samples for one in candidates]
            proposed = self.proposer.act(
                rows_of(seen, row), RowGenerator.from_seeds([proposing[one] for one in candidates])
            )
            noise = RowGenerator.from_seeds([predicting[one] for one in row])
            frames = self.dynamics.predict_video(rows_of(shown, row), noise, actions=proposed)
            chunks.append(proposed)
            scores.append(self.options.score(frames))
        best = torch.cat(scores).view(rows, samples).argmax(dim=1)
        return torch.cat(chunks).unflatten(0, (rows, samples))[torch.arange(rows, device=best.device), best]


def _seeds(generator: RowGenerator, samples: int) -> tuple[list[int], list[int]]:
    """Seeds of all candidates, row by row, and one seed a row for the predictions."""
    drawn = [torch.randint(_SEEDS, (samples + 1,), generator=one).tolist() for one in generator.generators]
    return [seed for row in drawn for seed in row[:-1]], [row[-1] for row in drawn]


def rows_of(observation: Observation, rows: list[int]) -> Observation:
    """Some rows of an observation, any of them several times."""
    state, past = observation.state, observation.past_actions
    return Observation(
        {name: images[rows] for name, images in observation.images.items()},
        [observation.instructions[row] for row in rows],
        None if state is None else state[rows],
        past_actions=None if past is None else past[rows],
    )
