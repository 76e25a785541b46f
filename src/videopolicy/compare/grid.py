"""A comparison as tables of text cells, which the terminal, Markdown and LaTeX write out alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from videopolicy.compare.model import Comparison, Entry, InverseError, Pair
from videopolicy.outcomes.intervals import Interval, percent, span
from videopolicy.outcomes.published import published_tables
from videopolicy.outcomes.records import Rate

By = Literal["task", "tier"]

_MOST_PAIRS = 28
_MOST_TABLES = 3
"""Tables of rates by task below each other; what more methods there are, other formats have."""
_QUALITY = {
    "psnr": ("PSNR dB", 2),
    "ssim": ("SSIM", 3),
    "lpips": ("LPIPS", 3),
    "fvd": ("FVD", 1),
    "inverse_l2": ("inverse L2", 4),
}
_STILL = "_still"
_PERCENT = "\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Section:
    """One table.

    Args:
        title: What it shows.
        header: Names of the columns; the first one names the rows.
        rows: Cells.
        notes: Sentences below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def sections(comparison: Comparison, by: By = "task", most_methods: int | None = None) -> list[Section]:
    """All tables of a comparison, those of the papers last.

    Args:
        comparison: What was computed.
        by: Rows of the second table.
        most_methods: Methods that fit beside each other in the second table; more of them continue below.
    """
    found: list[Section] = []
    if comparison.entries:
        found.append(_means(comparison))
        found += _groups(comparison, by, most_methods or len(comparison.entries))
        found += _costs(comparison)
        found += _pairs(comparison)
    if comparison.set_apart:
        found.append(_set_apart(comparison))
    return [*found, *_published(comparison)]


def _means(comparison: Comparison) -> Section:
    entries = comparison.entries
    scores = list(dict.fromkeys(name for entry in entries for name in entry.scores))
    seeds = any(len(entry.runs) > 1 for entry in entries)
    header = ["method", "success %", "95 %", *(["seeds", "95 % with seeds"] if seeds else [])]
    header += [*scores, "n", "errors", "differs"]
    rows = []
    for entry in entries:
        cells = [entry.name, *_value_and_span(entry.mean)]
        if seeds:
            cells += [str(len(entry.runs)), span(entry.seed_interval) if entry.seed_interval else ""]
        cells += [_score(entry.scores.get(name)) for name in scores]
        rows.append((*cells, str(entry.mean.episodes), str(entry.mean.errors), entry.letters))
    notes = [
        f"Mean over {len(comparison.tasks)} tasks of equal weight, n episodes in all; the interval speaks of new "
        "episodes of these tasks and trained policies"
        + (", the one with seeds of new trainings too." if seeds else "."),
        "Methods that share a letter do not differ significantly (5 %, Holm's correction over all pairs).",
    ]
    if comparison.detectable is not None:
        notes.append(
            f"The smallest difference that these episodes would show four times out of five is "
            f"{100 * comparison.detectable:.1f} percentage points."
        )
    notes += comparison.remarks
    return Section(f"Success on {comparison.benchmark}", tuple(header), tuple(rows), tuple(notes))


def _groups(comparison: Comparison, by: By, most: int) -> Iterator[Section]:
    shown = len(comparison.entries[: _MOST_TABLES * most])
    for start in range(0, shown, most):
        entries = comparison.entries[start : start + most]
        columns = [{rate.name: rate for rate in (e.tasks if by == "task" else e.tiers)} for e in entries]
        names = comparison.tasks if by == "task" else tuple(dict.fromkeys(name for one in columns for name in one))
        rows = tuple((name, *(rate_text(one.get(name)) for one in columns)) for name in names)
        means = ("mean", *(rate_text(entry.mean) for entry in entries))
        title = f"Success % [95 %] by {by}" + ("" if start == 0 else ", continued")
        counts = sorted({rate.episodes for entry in entries for rate in entry.tasks})
        number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        notes = [f"{number} episodes a task."] if counts else []
        if start + most >= shown < len(comparison.entries):
            notes.append(f"{len(comparison.entries) - shown} more methods: --format csv, json or html.")
        yield Section(title, (by, *(entry.name for entry in entries)), (*rows, means), tuple(notes))


def _costs(comparison: Comparison) -> Iterator[Section]:
    entries = [entry for entry in comparison.entries if entry.cost.parameters is not None]
    if not entries:
        return
    metrics = [name for name in _QUALITY if any(name in _quality(entry) for entry in entries)]
    accelerated = any(entry.cost.accelerator for entry in entries)
    processor = all(entry.cost.processor_seconds is not None for entry in entries) and not accelerated
    hours = "GPU-hours" if accelerated else "processor minutes" if processor else "CPU-hours"
    header = ("method", "s/chunk", "parameters", "steps", hours, *(_QUALITY[name][0] for name in metrics))
    rows = []
    for entry in entries:
        cost = entry.cost
        took = cost.processor_seconds if processor else None
        spent = f"{took / 60:.1f}" if took is not None else _number(cost.device_hours, 3)
        cells = [entry.name, _number(cost.seconds_per_chunk, 3), count_text(cost.parameters)]
        cells += [str(cost.trained_steps or ""), spent]
        rows.append((*cells, *(_quality_text(entry, name) for name in metrics)))
    notes = [f"s/chunk: median wall time of one forward pass of {_all_of(entries)} rows."]
    if metrics:
        notes.append("Video quality: on held-out clips; in brackets what repeating the present frame reaches.")
    notes += [f"{e.name}: {e.quality.source}." for e in entries if e.quality is not None and "fvd" in e.quality.values]
    notes += [f"{e.name}: {inverse_text(e.quality.inverse)}." for e in entries if e.quality and e.quality.inverse]
    yield Section("Costs" + (" and predicted videos" if metrics else ""), header, tuple(rows), tuple(notes))


def _pairs(comparison: Comparison) -> Iterator[Section]:
    for measure in dict.fromkeys(pair.measure for pair in comparison.pairs):
        pairs = [pair for pair in comparison.pairs if pair.measure == measure]
        shown, notes = pairs, []
        if len(pairs) > _MOST_PAIRS:
            shown = [pair for pair in pairs if pair.p_adjusted <= 0.05][:_MOST_PAIRS]
            notes = [f"{len(shown)} of {len(pairs)} pairs, of those that differ significantly; JSON and CSV have all."]
        success = measure == "success"
        header = ("pair", "difference", "pairs", "won-lost", "p", "p (Holm)", "test")
        yield Section(f"Differences in {measure}", header, tuple(_pair(p, success) for p in shown), tuple(notes))


def _pair(pair: Pair, success: bool) -> tuple[str, ...]:
    difference = f"{100 * pair.difference:+.1f}" if success else f"{pair.difference:+.3g}"
    counts = (str(pair.pairs), f"{pair.won}-{pair.lost}") if pair.pairs else ("unpaired", "")
    names = f"{pair.first} - {pair.second}"
    return (names, difference, *counts, p_text(pair.p), p_text(pair.p_adjusted), pair.test)


def _set_apart(comparison: Comparison) -> Section:
    rows = tuple(
        (one.name, rate_text(one.mean), str(one.mean.episodes) if one.mean else "", "; ".join(one.reasons))
        for one in comparison.set_apart
    )
    return Section("Set apart: not under the same protocol or tasks", ("run", "success %", "n", "why"), rows)


def _published(comparison: Comparison) -> Iterator[Section]:
    main = [number for number in comparison.published if number.kind == "main"]
    for table in published_tables(main):
        title = f"Published, not measured here: {table.source}"
        shares = all(value.endswith(_PERCENT) for _, values in table.rows for value in values if value)
        metric = f"{table.metric} %" if shares else table.metric
        rows = ((name, *(value.removesuffix(_PERCENT) if shares else value for value in v)) for name, v in table.rows)
        yield Section(title, (metric, *table.columns), tuple(rows), table.remarks)


def left_out_tables(comparison: Comparison) -> list[str]:
    """Which published tables `sections` leaves out, such as ``3 more tables of ablations``."""
    found = []
    for kind, what in (("ablation", "ablations"), ("elsewhere", "other robots, data and machines")):
        count = len(published_tables([number for number in comparison.published if number.kind == kind]))
        found += [f"{count} more table{'' if count == 1 else 's'} of {what}"] if count else []
    return found


def rate_text(rate: Rate | None) -> str:
    """Such as ``86.7 [82-90]``."""
    if rate is None or rate.value is None:
        return ""
    return f"{percent(rate.value)} [{span(rate.interval)}]"


def p_text(value: float) -> str:
    """Such as ``0.012``."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def count_text(count: int | None) -> str:
    """Such as ``5.06 M``."""
    if count is None:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _value_and_span(rate: Rate) -> tuple[str, str]:
    return ("", "") if rate.value is None else (percent(rate.value), span(rate.interval))


def _score(found: tuple[float, Interval] | None) -> str:
    return "" if found is None else f"{found[0]:.3g} [{found[1].low:.3g}-{found[1].high:.3g}]"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def _all_of(entries: Sequence[Entry]) -> str:
    rows = sorted({entry.cost.rows for entry in entries if entry.cost.rows})
    return " or ".join(map(str, rows)) or "all"


def _quality(entry: Entry) -> Mapping[str, float]:
    return entry.quality.values if entry.quality else {}


def inverse_text(error: InverseError) -> str:
    """What the error of inferred actions is, with its interval and n."""
    between = "" if error.interval is None else f", 95 % [{error.interval[0]:.4f}, {error.interval[1]:.4f}]"
    return (
        f"inverse L2 {error.l2:.4f}{between}, n = {error.windows} held-out windows of {error.actions} actions; "
        f"the mean action reaches {error.constant:.4f}"
    )


def _quality_text(entry: Entry, name: str) -> str:
    values, decimals = _quality(entry), _QUALITY[name][1]
    if name not in values:
        return ""
    still = values.get(name + _STILL)
    return f"{values[name]:.{decimals}f}" + ("" if still is None else f" ({still:.{decimals}f})")
