"""How far the actions that a policy infers from real frames are from those that were executed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videopolicy.contracts.checked import described, wrong
from videopolicy.contracts.dataset import Dataset, Windows
from videopolicy.contracts.policy import InfersActions
from videopolicy.outcomes.intervals import CONFIDENCE
from videopolicy.quality.model import InverseError
from videopolicy.seeds import derived_seed
from videopolicy.training.session import Session
from videopolicy.training.stages import ScaledPolicy
from videopolicy.types import RowGenerator

ROWS = 8
"""Windows at a time."""
_POSITION = ("x", "y", "z")


def spread(count: int, total: int) -> list[int]:
    """``count`` indices below ``total`` at equal distances."""
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def inverse_error(
    session: Session, trained: ScaledPolicy, dataset: Dataset, split: str, count: int
) -> InverseError | None:
    """See `InverseError` for what is measured and its source.

    Real frames are shown, never predicted ones. Only windows count whose frames and actions all lie inside their
    episode: what stands past its end is a repeated frame.

    Args:
        session: Of the run.
        trained: A policy that infers actions, on the session's device.
        dataset: With the held-out episodes.
        split: Which those are.
        count: Windows to look at, spread evenly over the episodes.

    Returns:
        None where no window lies inside its episode.

    Raises:
        PluginError: The policy returns something else than actions.
    """
    windows = dataset.windows(trained.policy.window, split)
    mean = torch.tensor(dataset.statistics().actions.mean)
    names = session.recipe.benchmark.spaces().actions.names
    position = [index for index, name in enumerate(names) if name in _POSITION]
    errors: list[Tensor] = []
    count = min(count, len(windows))
    with session.reporter.activity("infer held-out actions", count) as progress, torch.inference_mode():
        for start in range(0, count, ROWS):
            chosen = spread(count, len(windows))[start : start + ROWS]
            found, executed = _actions(trained, windows, chosen, session.device)
            missed = (found - executed, (found - executed)[..., position], mean - executed)
            errors.append(torch.stack([one.norm(dim=-1).mean(dim=1) for one in missed], dim=1))
            progress.advance(len(chosen))
    values = torch.cat(errors).double()  # (n, 3)
    if not len(values):
        return None
    l2, of_position, constant = values.mean(0).tolist()
    return InverseError(
        l2,
        _interval(values[:, 0]),
        len(values),
        trained.policy.window.horizon,
        constant,
        of_position if 0 < len(position) < len(names) else None,
    )


def _actions(
    trained: ScaledPolicy, windows: Windows, indices: list[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Inferred and executed actions ``(n, H, A)`` in the benchmark's units, of the windows inside their episode."""
    policy, normalizer = trained
    batch = windows.batch(indices)
    assert batch.actions is not None and batch.action_mask is not None and batch.future_mask is not None
    inside = batch.action_mask.all(1) & batch.future_mask.all(1)
    executed = batch.actions
    scaled = normalizer.batch(batch.to(device))
    noise = RowGenerator.from_seeds([derived_seed("inverse", index) for index in indices])
    assert isinstance(policy, InfersActions)  # no other is measured
    found: Any = policy.infer_actions(scaled.future, noise, scaled.observation)
    if not isinstance(found, Tensor) or found.shape != executed.shape:
        expected = f"a tensor of shape {tuple(executed.shape)}: rows, horizon, actions"
        wrong(policy, "infer_actions", described(found), expected)
    return normalizer.physical(found.float()).cpu()[inside], executed[inside]


def _interval(values: Tensor) -> tuple[float, float] | None:
    """Student's interval of the mean of values ``(n,)``; None of a single one."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    count = len(values)
    if count < 2:
        return None
    middle, half = float(values.mean()), float(stdtrit(count - 1, (1 + CONFIDENCE) / 2) * values.std() / count**0.5)
    return middle - half, middle + half
