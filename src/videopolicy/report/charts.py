"""Drawings as SVG whose colours follow the page, light or dark; the loss curves among them."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from videopolicy.console.text import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, TEXT, LINE, PAPER = "#010203", "#010204", "#040506", "#040507"
"""Secondary and primary text, rules, and the page itself."""
SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06", "#0a0b07", "#0a0b08")
"""Stand-ins that become the page's ``--muted``, ``--ink``, ``--line``, ``--paper`` and ``--series-N`` once matplotlib
has drawn."""

_SMOOTH_FROM = 60
"""Curves with fewer points are drawn as they are."""


def loss_curves(curves: dict[str, list[tuple[int, float]]], name: str) -> str:
    """Draw the losses of one stage over its steps, on a logarithmic axis where all are positive.

    Long curves are drawn faint, with their exponential moving average on top.

    Args:
        curves: Per loss rows of step and value.
        name: Of the stage; keeps the identifiers of several drawings on one page apart.

    Returns:
        An ``<svg>`` element for embedding.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for color, (loss, rows) in zip(SERIES * (1 + len(curves) // len(SERIES)), curves.items(), strict=False):
            steps, values = zip(*rows, strict=True)
            long = len(values) >= _SMOOTH_FROM
            axes.plot(steps, values, color=color, alpha=0.3 if long else 1, linewidth=0.7 if long else 1.4)
            smooth = _moving_average(values) if long else values
            axes.plot(steps, smooth, color=color, linewidth=1.5, label=plain(loss))
        lowest = min(value for rows in curves.values() for _, value in rows)
        highest = max(value for rows in curves.values() for _, value in rows)
        if lowest > 0:
            axes.set_yscale("log")
            if highest / lowest < 100:
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=LINE, alpha=0.35, linewidth=0.6)
        if len(curves) > 1:
            axes.legend(frameon=False, loc="upper right")

    return drawing((5.2, 2.7), name, draw)


def plain(name: str) -> str:
    """A name that matplotlib draws as it is: a dollar begins no formula."""
    return clean(name).replace("$", r"\$")


def drawing(size: tuple[float, float], name: str, draw: Callable[[Figure], None]) -> str:
    """Draw with matplotlib in colours that follow the page.

    Args:
        size: Width and height in inches; text is 10 points unless the drawing says otherwise.
        name: Keeps the identifiers of several drawings on one page apart.
        draw: Fills the figure, whose layout is constrained; it may use ``INK``, ``TEXT``, ``LINE``, ``PAPER`` and
            ``SERIES`` as colours.

    Returns:
        An ``<svg>`` element for embedding.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 10,
        "font.family": "sans-serif",
        "text.color": INK,
        "axes.edgecolor": LINE,
        "axes.labelcolor": INK,
        "xtick.color": LINE,
        "ytick.color": LINE,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    with rc_context(style), warnings.catch_warnings():
        # The browser draws the text, with fonts of its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _follow_the_page(buffer.getvalue())


def _moving_average(values: Sequence[float]) -> list[float]:
    """Exponential moving average over about a fortieth of the curve, started without bias."""
    keep = 1 - 1 / max(2.0, len(values) / 40)
    total = weight = 0.0
    smooth = []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        smooth.append(total / weight)
    return smooth


def _follow_the_page(svg: str) -> str:
    """Cut the document down to its element, and put the page's colours and font in."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"font-family: [^;\"]*;", "", svg)
    names = {INK: "--muted", TEXT: "--ink", LINE: "--line", PAPER: "--paper"}
    names |= {color: f"--series-{i}" for i, color in enumerate(SERIES)}
    for color, name in names.items():
        svg = svg.replace(color, f"var({name})")
    return svg
