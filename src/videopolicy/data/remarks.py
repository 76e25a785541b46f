"""What is said of data that can be used, and that somebody should look at."""

from __future__ import annotations

from videopolicy.contracts.dataset import Dataset

BEYOND = 0.05
"""Share of a dimension's range by which recorded actions may lie outside it: noise, and rounding."""


def remarks_on(dataset: Dataset) -> tuple[str, ...]:
    """What the reader guessed or changed, and actions that lie outside of their declared bounds."""
    actions, seen = dataset.spaces.actions, dataset.statistics().actions
    outside = []
    for name, low, high, least, most in zip(
        actions.names, actions.low, actions.high, seen.minimum, seen.maximum, strict=True
    ):
        slack = BEYOND * (high - low)
        if least < low - slack or most > high + slack:
            outside.append(f"'{name}' from {least:.4g} to {most:.4g} where {low:g} to {high:g} is declared")
    if not outside:
        return dataset.remarks
    return (*dataset.remarks, f"recorded actions lie outside of their bounds: {'; '.join(outside)}")
