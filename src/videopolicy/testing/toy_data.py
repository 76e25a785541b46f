"""Spaces, observations, batches and episodes of random content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from videopolicy.spaces import ActionSpace, Camera, Spaces, StateSpace
from videopolicy.types import Batch, Observation, Window

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from videopolicy.contracts.dataset import Episode

_SENTENCES = ("open the red drawer", "push the green button", "pick up the blue cup", "close the window slowly")


def toy_spaces(size: int = 32) -> Spaces:
    """Two cameras, three state dimensions, four action dimensions.

    Args:
        size: Height and width of the images in pixels.
    """
    return Spaces(
        cameras=(Camera(name="front", height=size, width=size), Camera(name="wrist", height=size, width=size)),
        actions=ActionSpace(
            names=("x", "y", "z", "gripper"),
            low=(-1.0, -1.0, -1.0, -1.0),
            high=(1.0, 1.0, 1.0, 1.0),
            control="delta_position",
            gripper="positive_closes",
            rate=10.0,
        ),
        state=StateSpace(names=("hand_x", "hand_y", "hand_z")),
    )


def toy_observation(spaces: Spaces, window: Window, seed: int = 0, batch_size: int = 2) -> Observation:
    """What a policy with this window would see, as random images, state and instructions.

    Past actions are normalised: uniform in [-1, 1]; the last row's episode began too late for all of them.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    frames = len(window.observed)
    observation = Observation(
        images=_images(spaces, (batch_size, frames), generator),
        instructions=[_SENTENCES[(seed + row) % len(_SENTENCES)] for row in range(batch_size)],
        state=torch.randn(batch_size, frames, spaces.state.dim, generator=generator) if spaces.state else None,
    )
    if window.past_actions:
        past = torch.rand(batch_size, window.past_actions, spaces.actions.dim, generator=generator) * 2 - 1
        past[-1, : (window.past_actions + 1) // 2] = torch.nan
        observation.past_actions = past
    return observation


def toy_batch(spaces: Spaces, window: Window, seed: int = 0, batch_size: int = 2) -> Batch:
    """A training batch of random content; the last row's episode ends early where the window reaches ahead.

    Actions are normalised: uniform in [-1, 1].
    """
    import torch

    generator = torch.Generator().manual_seed(seed + 1_000_000)
    batch = Batch(toy_observation(spaces, window, seed, batch_size))
    if window.future:
        batch.future = _images(spaces, (batch_size, len(window.future)), generator)
        batch.future_mask = _mask(batch_size, len(window.future))
    if window.horizon:
        batch.actions = torch.rand(batch_size, window.horizon, spaces.actions.dim, generator=generator) * 2 - 1
        batch.action_mask = _mask(batch_size, window.horizon)
    if window.future_states and spaces.state:
        later = len(window.future_states)
        batch.future_state = torch.randn(batch_size, later, spaces.state.dim, generator=generator)
        batch.future_state_mask = _mask(batch_size, later)
    return batch


def toy_episode(spaces: Spaces, task: str = "toy", attempt: int = 0, steps: int = 7) -> Episode:
    """A recorded episode of random content, a function of its arguments."""
    from videopolicy.contracts.dataset import Episode

    random = np.random.default_rng([attempt, steps, *task.encode()])
    low, high = np.asarray(spaces.actions.low), np.asarray(spaces.actions.high)
    return Episode(
        task=task,
        instruction=f"do what {task} says",
        images={
            camera.name: random.integers(0, 256, (steps, camera.height, camera.width, 3), dtype=np.uint8)
            for camera in spaces.cameras
        },
        actions=random.uniform(low, high, (steps, spaces.actions.dim)).astype(np.float32),
        state=random.normal(size=(steps, spaces.state.dim)).astype(np.float32) if spaces.state else None,
        initial_state=f"{task}-{attempt}",
        success=True,
        attempt=attempt,
    )


def _images(spaces: Spaces, leading: tuple[int, int], generator: Generator) -> dict[str, Tensor]:
    import torch

    return {
        camera.name: torch.randint(
            0, 256, (*leading, 3, camera.height, camera.width), generator=generator, dtype=torch.uint8
        )
        for camera in spaces.cameras
    }


def _mask(batch_size: int, length: int) -> Tensor:
    import torch

    mask = torch.ones(batch_size, length, dtype=torch.bool)
    mask[-1, (length + 1) // 2 :] = False
    return mask
