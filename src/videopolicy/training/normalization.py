"""Scaling of actions and proprioception between physical units and what a model sees.

The statistics are buffers of this module and are stored with the weights, so that a policy never meets
another data set's statistics.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.recipes.recipe import Normalization, Recipe
from videopolicy.spaces import Spaces
from videopolicy.types import Batch, Observation


def _affine(mode: str, statistics: FieldStatistics) -> tuple[Tensor, Tensor]:
    """Shift and scale such that ``(x - shift) / scale`` is normalised; constant dimensions keep scale 1."""
    low, high = torch.tensor(statistics.minimum), torch.tensor(statistics.maximum)
    mean, deviation = torch.tensor(statistics.mean), torch.tensor(statistics.deviation)
    if mode == "identity":
        return torch.zeros_like(low), torch.ones_like(low)
    shift, scale = ((low + high) / 2, (high - low) / 2) if mode == "minmax" else (mean, deviation)
    return shift, torch.where(scale > 1e-6, scale, torch.ones_like(scale))


def statistics_for(recipe: Recipe, measured: Statistics) -> Statistics:
    """The statistics that a recipe's vectors are scaled by.

    Dimensions that ``normalization.unscaled`` names get those that every mode maps to themselves: -1 to 1, mean 0,
    deviation 1.

    Args:
        recipe: The recipe.
        measured: Of the training split.
    """
    spaces = recipe.benchmark.spaces()

    def kept(field: FieldStatistics, names: tuple[str, ...]) -> FieldStatistics:
        free = [name in recipe.normalization.unscaled for name in names]
        values = (
            [new if unscaled else old for old, unscaled in zip(column, free, strict=True)]
            for column, new in ((field.minimum, -1.0), (field.maximum, 1.0), (field.mean, 0.0), (field.deviation, 1.0))
        )
        return FieldStatistics(*values)

    state = measured.state
    if state is not None and spaces.state is not None:
        state = kept(state, spaces.state.names)
    return Statistics(kept(measured.actions, spaces.actions.names), state)


def unscaled(spaces: Spaces) -> Normalizer:
    """The scaling of a policy without weights, which acts in the benchmark's own units."""

    def ones(size: int) -> FieldStatistics:
        return FieldStatistics([-1.0] * size, [1.0] * size, [0.0] * size, [1.0] * size)

    state = ones(spaces.state.dim) if spaces.state is not None else None
    return Normalizer(Normalization(actions="identity", state="identity"), Statistics(ones(spaces.actions.dim), state))


class Normalizer(nn.Module):
    """Applies one normalisation to the vectors of batches and observations, and undoes it on actions.

    Args:
        modes: ``identity``, ``minmax`` (to [-1, 1]) or ``standard`` (mean 0, deviation 1) per field.
        statistics: Of the training split.
    """

    action_shift: Tensor
    action_scale: Tensor
    state_shift: Tensor
    state_scale: Tensor

    def __init__(self, modes: Normalization, statistics: Statistics) -> None:
        super().__init__()
        for name, mode, field in (
            ("action", modes.actions, statistics.actions),
            ("state", modes.state, statistics.state),
        ):
            shift, scale = _affine(mode, field) if field is not None else (torch.zeros(0), torch.ones(0))
            self.register_buffer(f"{name}_shift", shift)
            self.register_buffer(f"{name}_scale", scale)

    def observation(self, observation: Observation) -> Observation:
        """Normalise the state ``(B, T, S)`` and the past actions ``(B, P, A)`` of an observation."""
        past = observation.past_actions
        return replace(
            observation,
            state=self._state(observation.state),
            past_actions=None if past is None else (past - self.action_shift) / self.action_scale,
        )

    def batch(self, batch: Batch) -> Batch:
        """Normalise states and actions ``(B, H, A)`` of a batch."""
        actions = batch.actions
        if actions is not None:
            actions = (actions - self.action_shift) / self.action_scale
        return replace(
            batch,
            observation=self.observation(batch.observation),
            actions=actions,
            future_state=self._state(batch.future_state),
        )

    def _state(self, state: Tensor | None) -> Tensor | None:
        """Normalised states ``(..., S)``.

        A state of which there are no statistics is left as it is: those who trained the policy did not show it.
        """
        if state is None or not len(self.state_shift):
            return state
        return (state - self.state_shift) / self.state_scale

    def physical(self, actions: Tensor) -> Tensor:
        """Normalised actions ``(B, H, A)`` in the simulator's units."""
        return actions * self.action_scale + self.action_shift
