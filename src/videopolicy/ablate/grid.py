"""The outcome of an ablation as text cells, which every format writes out."""

from __future__ import annotations

from videopolicy.ablate.outcome import MEANINGS, SUCCESS, Outcome, RowOutcome
from videopolicy.outcomes.intervals import Interval, percent, span


def cells(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    """Header and rows; a column that would be empty everywhere is left out."""
    header = ["row", "paper", "ours", "95 % interval", "n", "errors", "differs", "verdict"]
    rows = [_row(row, outcome) for row in outcome.rows]
    says = [any(row[i] not in ("", "0") for row in rows) for i in range(len(header))]
    # Without any number of a paper there is nothing to judge.
    says[-1] = any(row.verdict != "no number" for row in outcome.rows)
    kept = [i for i, something in enumerate(says) if something]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _row(row: RowOutcome, outcome: Outcome) -> list[str]:
    return [
        row.name,
        _value(row.paper, outcome.metric),
        _value(row.ours, outcome.measured),
        "" if row.interval is None or row.ours is None else _interval(row.interval, outcome.measured),
        str(row.episodes) if row.episodes else "",
        str(row.errors),
        row.letters,
        row.verdict,
    ]


def notes(outcome: Outcome) -> list[str]:
    """What has to be said below the table."""
    lines = [f"Metric: {outcome.metric}; n: finished episodes over all tasks, each task with the same weight."]
    if outcome.measured != outcome.metric:
        lines.append(f"Ours: {outcome.measured}, since this base does not measure {outcome.metric}.")
    papers = sorted({row.paper_episodes for row in outcome.rows if row.paper_episodes})
    if papers:
        lines.append(f"The paper's numbers are of {', '.join(map(str, papers))} episodes, and not measured here.")
    if outcome.verdicts != ("no number",):
        lines += [f"{verdict}: {MEANINGS[verdict]}." for verdict in outcome.verdicts]
    if any(row.letters for row in outcome.rows):
        lines.append("differs: rows that share a letter do not differ significantly (5 %, after Holm).")
    return [*lines, *outcome.warnings]


def _value(value: float | None, metric: str) -> str:
    if value is None:
        return ""
    return f"{percent(value)} %" if metric.startswith(SUCCESS) else f"{value:.3g}"


def _interval(interval: Interval, metric: str) -> str:
    return span(interval) if metric.startswith(SUCCESS) else f"{interval.low:.3g}-{interval.high:.3g}"
