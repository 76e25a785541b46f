"""What a part of a policy sees of the policy's window, where it contains the part's own."""

from __future__ import annotations

from dataclasses import replace

from videopolicy.types import Batch, Observation, Window


def observation_for(part: Window, observation: Observation, whole: Window) -> Observation:
    """What a part sees of an observation over a window that contains the part's own."""
    places = [whole.observed.index(offset) for offset in part.observed]
    state, past = observation.state, observation.past_actions
    return Observation(
        {name: images[:, places] for name, images in observation.images.items()},
        observation.instructions,
        None if state is None else state[:, places],
        past_actions=past[:, -part.past_actions :] if past is not None and part.past_actions else None,
        rows=observation.rows,
    )


def batch_for(part: Window, batch: Batch, whole: Window) -> Batch:
    """What a part trains on of a batch over a window that contains the part's own."""
    places, horizon = [whole.future.index(offset) for offset in part.future], part.horizon
    later = [whole.future_states.index(offset) for offset in part.future_states]
    return replace(
        batch,
        observation=observation_for(part, batch.observation, whole),
        future={name: frames[:, places] for name, frames in batch.future.items()} if places else {},
        future_mask=batch.future_mask[:, places] if batch.future_mask is not None and places else None,
        actions=batch.actions[:, :horizon] if batch.actions is not None and horizon else None,
        action_mask=batch.action_mask[:, :horizon] if batch.action_mask is not None and horizon else None,
        future_state=batch.future_state[:, later] if batch.future_state is not None and later else None,
        future_state_mask=(
            batch.future_state_mask[:, later] if batch.future_state_mask is not None and later else None
        ),
    )
