"""The comparison as one HTML file that opens from disk and needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from videopolicy.compare.model import Comparison, Entry
from videopolicy.compare.page import plots
from videopolicy.compare.page.films import (
    ALL,
    DIFFER,
    INDEX,
    NONE,
    Scene,
    facts_of,
    filmed_entries,
    films_folder,
    scenes,
)
from videopolicy.console.progress import duration
from videopolicy.outcomes.intervals import Interval
from videopolicy.outcomes.published import published_tables, with_sign
from videopolicy.report import page as run_page
from videopolicy.report import predictions
from videopolicy.report.made import ComparedFilmFacts, ForecastFacts, showable
from videopolicy.report.media import data_uri
from videopolicy.storage.files import write_text
from videopolicy.storage.run_folder import RunFolder

PATTERNS = {DIFFER: "methods differ", ALL: "all solved it", NONE: "nobody solved it"}
METRICS = {
    "psnr": ("PSNR", "dB", 2),
    "ssim": ("SSIM", "", 3),
    "lpips": ("LPIPS", "", 3),
    "fvd": ("FVD", "", 1),
    "inverse_l2": ("inverse L2", "", 4),
}
"""Name, unit and decimals of a measure of predicted video, or of actions that were inferred from a real one."""

_FILM_BYTES = 11_000_000
_FORECAST_BYTES = 4_000_000
"""What may go into the page; base64 makes a third more of it."""


def write_page(comparison: Comparison, path: Path) -> Path:
    """Render the page of a comparison.

    Films are taken from `films_folder`, as far as they have been made; predicted futures from the run folders.

    Args:
        comparison: What was computed.
        path: The file to write, such as ``comparison.html``.

    Returns:
        The file.

    Raises:
        StorageError: The file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=with_sign, span=_span, points=_points, p=_p, duration=duration, grouped=_grouped, seconds=_seconds
    )
    text = environment.get_template("page.html").render(_context(comparison, films_folder(path)))
    write_text(path, text)
    return path


def _context(comparison: Comparison, folder: Path) -> dict[str, Any]:
    own = Path(__file__).parent
    styles = (Path(run_page.__file__).with_suffix(".css"), own / "page.css")
    published = [
        (kind, published_tables([number for number in comparison.published if number.kind == kind]))
        for kind in ("main", "ablation", "elsewhere")
    ]
    problems: list[str] = []
    films, forecasts = _films(comparison, folder, problems), _forecasts(comparison, problems)
    return {
        "comparison": replace(comparison, warnings=(*comparison.warnings, *problems)),
        "style": "\n".join(style.read_text(encoding="utf-8") for style in styles),
        "script": (own / "page.js").read_text(encoding="utf-8"),
        "looks": plots.looks(comparison.entries),
        "rates": {entry.name: {rate.name: rate for rate in entry.tasks} for entry in comparison.entries},
        "tier_rates": {entry.name: {rate.name: rate for rate in entry.tiers} for entry in comparison.entries},
        "tier_names": _tiers(comparison),
        "scores": list(dict.fromkeys(name for entry in comparison.entries for name in entry.scores)),
        "metrics": {name: METRICS[name] for name in METRICS if any(name in _quality(e) for e in comparison.entries)},
        "clips": _clips(comparison),
        "episodes": _episodes(comparison),
        "drawings": _drawings(comparison),
        "films": films,
        "patterns": PATTERNS if len(filmed_entries(comparison)) > 1 else {ALL: "solved", NONE: "not solved"},
        "forecasts": forecasts,
        "published": dict(published),
    }


def _tiers(comparison: Comparison) -> list[str]:
    """Names of the tiers, where there are several."""
    names = [tier for tier in dict.fromkeys(comparison.tiers.values()) if tier]
    return names if len(names) > 1 else []


def _quality(entry: Entry) -> Mapping[str, float]:
    return entry.quality.values if entry.quality else {}


def _clips(comparison: Comparison) -> list[str]:
    """On what the video qualities were measured, said once where it is the same for all."""
    found = {entry.name: entry.quality for entry in comparison.entries if entry.quality is not None}
    said = {name: f"{q.source}, to {max(q.offsets)} steps ahead" for name, q in found.items()}
    same = len(set(said.values())) == 1
    return list(dict.fromkeys(said.values())) if same else [f"{name}: {text}" for name, text in said.items()]


def _episodes(comparison: Comparison) -> list[int]:
    """Fewest and most finished episodes of a task, over all methods."""
    counts = sorted({rate.episodes for entry in comparison.entries for rate in entry.tasks})
    return [counts[0], counts[-1]] if counts else [0, 0]


def _drawings(comparison: Comparison) -> dict[str, str]:
    """Drawings by name; empty where there is nothing to draw."""
    return {
        "methods": plots.success_by_method(comparison),
        "tasks": plots.success_by_task(comparison),
        "latency": plots.success_against_latency(comparison),
        "psnr": plots.success_against_quality(comparison, "psnr", "PSNR above repeating the present frame (dB)"),
        "ssim": plots.success_against_quality(comparison, "ssim", "SSIM above repeating the present frame"),
    }


def _films(comparison: Comparison, folder: Path, problems: list[str]) -> dict[str, Any]:
    """Scenes with the films that are there, as many as fit, by task; what cannot be shown gets a sentence.

    Returns:
        ``scenes``, ``methods`` that appear in them, and numbers of scenes that are ``left_out`` for lack of room and
        ``unfilmed``.
    """
    usable = showable(folder / INDEX, folder.parent, ComparedFilmFacts, lambda name: [name], problems)
    made = {(facts.method, facts.task, facts.episode): (name, facts) for name, facts in usable.items()}
    shown: list[dict[str, Any]] = []
    room, left_out, unfilmed = _FILM_BYTES, 0, 0
    for scene in scenes(comparison):
        found = {method: made.get((method, scene.task, scene.episode)) for method in scene.records}
        current = {method: one for method, one in found.items() if one and _shows(one[1], scene, method)}
        paths = {method: folder / name for method, (name, _) in current.items()}
        size = sum(path.stat().st_size for path in paths.values())
        if not paths:
            unfilmed += 1
        elif size > room:
            left_out += 1
        else:
            room -= size
            sources = {method: data_uri(path.read_bytes(), "video/mp4") for method, path in paths.items()}
            shown.append({"scene": scene, "sources": sources, "facts": {m: current[m][1] for m in paths}})
    order = {task: index for index, task in enumerate(comparison.tasks)}
    shown.sort(key=lambda one: (order[one["scene"].task], one["scene"].episode))
    methods = [e.name for e in filmed_entries(comparison) if any(e.name in one["scene"].records for one in shown)]
    return {"scenes": shown, "methods": methods, "left_out": left_out, "unfilmed": unfilmed}


def _shows(facts: ComparedFilmFacts, scene: Scene, method: str) -> bool:
    """Whether a film is of this record, and not of an earlier run by the same name."""
    return all(getattr(facts, key) == value for key, value in facts_of(method, scene.records[method]).items())


def _forecasts(comparison: Comparison, problems: list[str]) -> dict[str, Any]:
    """Predicted futures by task and method, as many as fit; what cannot be shown gets a sentence.

    Returns:
        ``tasks`` with a list of predictions each, and how many are ``left_out`` for lack of room.
    """
    room, left_out = _FORECAST_BYTES, 0
    tasks: dict[str, list[dict[str, Any]]] = {}
    indices = {entry.name: _predicted(RunFolder(entry.runs[0]), problems) for entry in filmed_entries(comparison)}
    for task in comparison.tasks:
        for method, (folder, index) in indices.items():
            if task not in index:
                continue
            picture, film = (folder / name for name in predictions.files_of(task))
            size = picture.stat().st_size + film.stat().st_size
            if size > room:
                left_out += 1
                continue
            room -= size
            sources = {
                "picture": data_uri(picture.read_bytes(), "image/png"),
                "film": data_uri(film.read_bytes(), "video/mp4"),
            }
            tasks.setdefault(task, []).append({**index[task].model_dump(), **sources, "method": method})
    return {"tasks": tasks, "left_out": left_out}


def _predicted(run: RunFolder, problems: list[str]) -> tuple[Path, dict[str, ForecastFacts]]:
    """Where a run keeps its predictions, and those that can be shown."""
    index = run.videos / predictions.INDEX
    return run.videos, showable(index, run.path, ForecastFacts, predictions.files_of, problems)


def _span(interval: Interval, scale: float = 100.0, decimals: int = 0) -> str:
    """Such as ``84-97`` with an en dash; success in percent."""
    return f"{scale * interval.low:.{decimals}f}\N{EN DASH}{scale * interval.high:.{decimals}f}"


def _points(difference: float) -> str:
    """A difference of success rates in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def _p(value: float) -> str:
    return "<\N{THIN SPACE}0.001" if value < 0.001 else f"{value:.3f}"


def _grouped(count: int) -> str:
    """Such as ``12 500`` with a thin space; millions where there are many."""
    return f"{count / 1e6:.1f}\N{NO-BREAK SPACE}M" if count >= 1e6 else f"{count:,}".replace(",", "\N{THIN SPACE}")


def _seconds(value: float) -> str:
    """A latency: milliseconds below one second."""
    return f"{1000 * value:.3g}\N{NO-BREAK SPACE}ms" if value < 1 else f"{value:.3g}\N{NO-BREAK SPACE}s"
