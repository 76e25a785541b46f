"""The comparison's drawings: success with its intervals, and success against what it costs and what is predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from videopolicy.compare.model import Comparison, Entry
from videopolicy.outcomes.intervals import percent
from videopolicy.outcomes.records import Rate
from videopolicy.report.charts import INK, LINE, PAPER, SERIES, TEXT, drawing, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_METHODS = (0, 1, 2, 3, 4, 6, 7)
_CHANCE = 5
"""Which of the page's series: grey is kept for chance."""

_MARKERS = {"o": "circle", "s": "square", "^": "up", "D": "diamond", "v": "down", "P": "plus", "*": "star"}
_WIDTH = 11.0
"""Inches of a drawing as wide as the page; one inch becomes about 105 pixels."""

_SMALL = 8.5
_PANELS = 4
"""Small multiples in a row."""

_DECADE = 10.0
"""Values that span more than this are drawn on a logarithmic axis."""

_PLACES = ((9, 0), (-9, 0), (9, 9), (-9, 9), (9, -9), (-9, -9), (0, 12), (0, -12))
"""Where a label may lie, in points from what it names, best first."""


class Look(NamedTuple):
    """How a method is drawn, everywhere on the page.

    Args:
        series: Which of the page's colours.
        marker: Matplotlib's letter.
        shape: The same marker's name in the page's style.
    """

    series: int
    marker: str
    shape: str


def looks(entries: Sequence[Entry]) -> dict[str, Look]:
    """A colour and a marker by method; with more than seven methods colours come again with other markers."""
    methods = [entry.name for entry in entries if entry.policy != "random"]
    found = {entry.name: Look(_CHANCE, "X", "cross") for entry in entries if entry.policy == "random"}
    markers, count = list(_MARKERS.items()), len(_METHODS)
    for index, name in enumerate(methods):
        found[name] = Look(_METHODS[index % count], *markers[(index + index // count) % count])
    return found


def success_by_method(comparison: Comparison) -> str:
    """Mean success of every method with its 95 % interval, best first.

    Returns:
        An ``<svg>`` element; empty where no episode was finished.
    """
    entries = [entry for entry in comparison.entries if entry.mean.value is not None]
    if not entries:
        return ""
    chosen = looks(comparison.entries)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _lanes(axes, [entry.mean for entry in entries], [chosen[entry.name] for entry in entries], 7)
        axes.set_yticks(range(len(entries)), [plain(entry.name) for entry in entries])
        axes.tick_params(axis="y", labelcolor=TEXT)
        for row, entry in enumerate(entries):
            beside = axes.get_yaxis_transform()
            rate = f"{percent(entry.mean.value or 0)} %"
            axes.text(1.07, row, rate, transform=beside, ha="right", va="center", color=TEXT)
            axes.text(1.085, row, entry.letters, transform=beside, va="center", color=TEXT)
        axes.set_xlabel("mean success over tasks, 95 % interval")

    return drawing((_WIDTH, 0.75 + 0.33 * len(entries)), "success-by-method", draw)


def success_by_task(comparison: Comparison) -> str:
    """Success of every method on every task with its 95 % interval, one panel a task.

    Returns:
        An ``<svg>`` element; empty where no episode was finished.
    """
    entries = [entry for entry in comparison.entries if entry.mean.value is not None]
    if not entries:
        return ""
    chosen = looks(comparison.entries)
    columns = min(_PANELS, len(comparison.tasks)) if len(comparison.tasks) != 6 else 3
    rows = math.ceil(len(comparison.tasks) / columns)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for panel in grid.flat[len(comparison.tasks) :]:
            panel.set_visible(False)
        for index, task in enumerate(comparison.tasks):
            panel = grid.flat[index]
            rates = [next((rate for rate in entry.tasks if rate.name == task), None) for entry in entries]
            _lanes(panel, rates, [chosen[entry.name] for entry in entries], 5)
            panel.set_title(plain(task), fontsize=9.5, loc="left", color=TEXT)
            names = [plain(entry.name) for entry in entries] if index % columns == 0 else []
            panel.set_yticks(range(len(entries)), names)
            panel.tick_params(labelsize=_SMALL)
            panel.tick_params(axis="x", labelbottom=index + columns >= len(comparison.tasks))

    return drawing((_WIDTH, rows * (0.45 + 0.19 * len(entries)) + 0.2), "success-by-task", draw)


def success_against_latency(comparison: Comparison) -> str:
    """Mean success over the median time of one forward pass.

    Returns:
        An ``<svg>`` element; empty where fewer than two methods have a time.
    """
    values = {
        entry.name: entry.cost.seconds_per_chunk
        for entry in comparison.entries
        if entry.cost.seconds_per_chunk and entry.policy != "random"
    }
    rows = {entry.cost.rows for entry in comparison.entries if entry.name in values}
    batch = f"a batch of {rows.pop()}" if len(rows) == 1 and None not in rows else "the whole batch"
    return _against(comparison, values, f"seconds for the action chunks of {batch}, median", "success-latency")


def success_against_quality(comparison: Comparison, metric: str, label: str) -> str:
    """Mean success over how much better than a still picture the future is predicted.

    Args:
        comparison: With video qualities.
        metric: ``psnr`` or ``ssim``.
        label: Of the axis.

    Returns:
        An ``<svg>`` element; empty where fewer than two methods have the metric.
    """
    values = {
        entry.name: entry.quality.values[metric] - entry.quality.values[f"{metric}_still"]
        for entry in comparison.entries
        if entry.quality is not None and {metric, f"{metric}_still"} <= entry.quality.values.keys()
    }
    return _against(comparison, values, label, f"success-{metric}")


def _lanes(axes: Axes, rates: Sequence[Rate | None], chosen: Sequence[Look], size: float) -> None:
    """Points with intervals, one below the other, on an axis of success from 0 to 100 %."""
    from matplotlib.ticker import PercentFormatter

    for row, (rate, look) in enumerate(zip(rates, chosen, strict=True)):
        if rate is not None and rate.value is not None:
            axes.plot(rate.interval, (row, row), **_line(look, size / 3))
            axes.plot(rate.value, row, **_point(look, size))
    axes.set_ylim(len(rates) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks((0, 0.5, 1))
    axes.set_xticks((0.25, 0.75), minor=True)
    axes.tick_params(axis="x", which="minor", length=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", which="both", color=LINE, alpha=0.6, linewidth=0.6)
    axes.set_axisbelow(True)


def _line(look: Look, width: float) -> dict[str, Any]:
    return {"color": SERIES[look.series], "alpha": 0.6, "linewidth": width, "solid_capstyle": "butt"}


def _point(look: Look, size: float) -> dict[str, Any]:
    rim = {"markeredgecolor": PAPER, "markeredgewidth": 0.8}
    return {"color": SERIES[look.series], "marker": look.marker, "markersize": size, **rim}


def _against(comparison: Comparison, values: Mapping[str, float], label: str, name: str) -> str:
    """Success over another quantity, every point with its name beside it."""
    entries = [entry for entry in comparison.entries if entry.name in values and entry.mean.value is not None]
    if len(entries) < 2:
        return ""
    chosen = looks(comparison.entries)

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import PercentFormatter

        axes = figure.add_subplot()
        for entry in entries:
            x, look = values[entry.name], chosen[entry.name]
            axes.plot((x, x), entry.mean.interval, **_line(look, 2))
            axes.plot(x, entry.mean.value or 0.0, **_point(look, 8))
        low, high = min(values.values()), max(values.values())
        if low > 0 and high / low > _DECADE:
            _logarithmic(axes)
        axes.margins(x=0.14)
        axes.set_ylim(*_fifths(entries))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel(label)
        axes.set_ylabel("mean success")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=LINE, alpha=0.6, linewidth=0.6)
        axes.set_axisbelow(True)
        _name_points(figure, axes, entries, values)

    return drawing((_WIDTH / 2, 3.5), name, draw)


def _fifths(entries: Sequence[Entry]) -> tuple[float, float]:
    """Ends of an axis that holds all intervals, at multiples of 20 % and a little beyond."""
    low = min(entry.mean.interval.low for entry in entries)
    high = max(entry.mean.interval.high for entry in entries)
    return math.floor(low * 5) / 5 - 0.02, math.ceil(high * 5) / 5 + 0.02


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name_points(figure: Figure, axes: Axes, entries: Sequence[Entry], values: Mapping[str, float]) -> None:
    """Write every method's name beside its point, where it covers the least of the others and of their intervals."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # places the axes, so that points have pixels
    points = {entry.name: (values[entry.name], entry.mean.value or 0.0) for entry in entries}
    taken: list[Bbox] = []
    for entry in entries:
        x, _ = points[entry.name]
        low, point, high = axes.transData.transform(
            [(x, entry.mean.interval.low), points[entry.name], (x, entry.mean.interval.high)]
        )
        taken += [Bbox([low - 3, high + 3]), Bbox([point - 6, point + 6])]
    for name, at in points.items():
        text = axes.annotate(plain(name), at, (0, 0), textcoords="offset points", color=INK, fontsize=9)
        text.set_in_layout(False)
        covered = [_covered(_placed(text, place), taken, axes.bbox) for place in _PLACES]
        taken.append(_placed(text, _PLACES[covered.index(min(covered))]))


def _placed(text: Annotation, place: tuple[float, float]) -> Bbox:
    """Move a label, and say which pixels it covers."""
    text.set_position(place)
    text.set_horizontalalignment("left" if place[0] > 0 else "right" if place[0] else "center")
    text.set_verticalalignment("center" if place[0] else "bottom" if place[1] > 0 else "top")
    return text.get_window_extent()


def _covered(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> float:
    """Square pixels of a label that lie on something else or outside the axes."""
    from matplotlib.transforms import Bbox

    def common(other: Bbox) -> float:
        both = Bbox.intersection(box, other)
        return 0.0 if both is None else float(both.width * both.height)

    return sum(common(other) for other in taken) + float(box.width * box.height) - common(inside)
