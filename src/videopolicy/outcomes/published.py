"""Numbers from papers as tables, always with where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from videopolicy.contracts.benchmark import PublishedNumber
from videopolicy.outcomes.intervals import percent

_MOST_COLUMNS = 8


@dataclass(frozen=True)
class PublishedTable:
    """One paper's numbers of one metric.

    Args:
        metric: Such as ``success``.
        source: Paper and table.
        columns: Tasks, tiers and ``mean``; where they are many, methods.
        rows: Methods (or tasks) and their values by column, as text; a value that the paper does not give is empty.
        remarks: Number of episodes and notes, one sentence each.
    """

    metric: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    remarks: tuple[str, ...]


SIGN = "\N{NO-BREAK SPACE}%"


def with_sign(share: float) -> str:
    """Such as ``92.5 %``, whose parts no line break separates."""
    return percent(share) + SIGN


def of_this_benchmark(numbers: Sequence[PublishedNumber]) -> list[PublishedNumber]:
    """Without those of other robots, data and machines."""
    return [number for number in numbers if number.kind != "elsewhere"]


def of_elsewhere(numbers: Sequence[PublishedNumber]) -> list[PublishedNumber]:
    """Those of other robots, data and machines alone."""
    return [number for number in numbers if number.kind == "elsewhere"]


def published_tables(numbers: Sequence[PublishedNumber]) -> list[PublishedTable]:
    """Arrange numbers by metric and source."""
    tables = []
    for metric, source in dict.fromkeys((number.metric, number.source) for number in numbers):
        chosen = [number for number in numbers if (number.metric, number.source) == (metric, source)]
        groups = tuple(dict.fromkeys(number.group for number in chosen))
        values = {(number.method, number.group): _value(number) for number in chosen}
        methods = tuple(dict.fromkeys(number.method for number in chosen))
        rows = [(method, tuple(values.get((method, group), "") for group in groups)) for method in methods]
        if len(groups) > _MOST_COLUMNS:
            rows = [(group, tuple(row[index] for _, row in rows)) for index, group in enumerate(groups)]
        episodes = sorted({number.episodes for number in chosen if number.episodes is not None})
        said = f"{', '.join(map(str, episodes))} episodes a task." if episodes else "No number of episodes is given."
        elsewhere = all(number.kind == "elsewhere" for number in chosen)
        tables.append(
            PublishedTable(
                metric,
                source,
                methods if len(groups) > _MOST_COLUMNS else groups,
                tuple(rows),
                (
                    *([] if elsewhere and not episodes else [said]),
                    *dict.fromkeys(number.note for number in chosen if number.note),
                ),
            )
        )
    return tables


def _value(number: PublishedNumber) -> str:
    """Success rates in percent, everything else as the paper prints it."""
    if number.metric.startswith("success") and 0 <= number.value <= 1:
        return with_sign(number.value)
    return f"{number.value:g}"
