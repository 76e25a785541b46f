"""``report.html``: one file that opens from disk and needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.console.progress import duration
from videopolicy.outcomes.intervals import span
from videopolicy.outcomes.published import of_elsewhere, of_this_benchmark, published_tables, with_sign
from videopolicy.outcomes.records import PolicySummary, Rate
from videopolicy.report import predictions, videos
from videopolicy.report.charts import loss_curves
from videopolicy.report.contents import RunContents, read_run
from videopolicy.report.made import FilmFacts, ForecastFacts, showable
from videopolicy.report.media import data_uri
from videopolicy.storage.files import ensure_no_link_out, write_text

POLICY_NOTES = {
    "trained": "after all stages of training",
    "untrained": "same shape, before any training",
    "random": "uniformly random actions",
}
_NOT_LOSSES = ("lr", "learning_rate", "grad", "gradient")


def write_report(run_folder: Path, benchmark: BenchmarkComponent | None = None, trust: bool = False) -> Path:
    """Render ``report.html`` from whatever the run folder holds so far.

    Args:
        run_folder: The folder.
        benchmark: Of the run; by default the resolved recipe is asked for it.
        trust: Whether the Python files that it names may be run for that.

    Returns:
        The file.

    Raises:
        VpolicyError: The folder is not a run folder.
        StorageError: The file cannot be written, or a link leads out of the folder.
    """
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    run = read_run(run_folder, benchmark, trust)
    ensure_no_link_out(run_folder)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=ChainableUndefined,  # an unfinished run lacks parts
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent, interval=_interval, span=_span, duration=_duration, bytes=_bytes, number=_number, loss=_loss
    )
    text = environment.get_template("page.html").render(_context(run))
    write_text(run.folder.report_file, text)
    return run.folder.report_file


def _interval(rate: Rate) -> str:
    """Such as ``84-97`` with an en dash, in percent."""
    return span(rate.interval, "\N{EN DASH}")


def _context(run: RunContents) -> dict[str, Any]:
    tasks = list(run.benchmark.tasks()) if run.benchmark else []
    published = run.benchmark.published() if run.benchmark else ()
    return {
        "run": run,
        "style": (Path(__file__).parent / "page.css").read_text(encoding="utf-8"),
        "recipe": run.recipe,
        "provenance": run.provenance,
        "missing": run.missing(),
        "trained": run.summaries.get("trained"),
        "policy_notes": POLICY_NOTES,
        "instructions": {task.name: task.instruction for task in tasks},
        "groups": _groups(run, [(task.name, task.tier) for task in tasks]),
        "metrics": _metrics(run.summaries),
        "unpaired": _unpaired(run),
        "films": _films(run),
        "forecasts": _forecasts(run),
        "stages": [_stage(run, name) for name in run.stage_names],
        "published": published_tables(of_this_benchmark(published)),
        "elsewhere": published_tables(of_elsewhere(published)),
        "protocols": list(dict.fromkeys(record.protocol for record in run.records)),
        "protocol": run.protocol,
        "errors": [record for record in run.records if record.error is not None],
        "composition": composition(run.recipe),
    }


def _groups(run: RunContents, tiers: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Tasks by tier, each with the rates of all policies, then the means."""
    by_tier: dict[str, list[str]] = {}
    tier_of = dict(tiers)
    for name in tier_of or dict.fromkeys(record.task for record in run.records):
        by_tier.setdefault(tier_of.get(name, ""), []).append(name)
    if len(by_tier) == 1:
        by_tier = {"": next(iter(by_tier.values()))}
    groups = []
    for tier, names in by_tier.items():
        rows = [(name, {policy: s.task(name) for policy, s in run.summaries.items()}) for name in names]
        means = {policy: next((t for t in s.tiers if t.name == tier), None) for policy, s in run.summaries.items()}
        groups.append({"tier": tier, "rows": rows, "means": means if tier else {}})
    return groups


def _metrics(summaries: dict[str, PolicySummary]) -> dict[str, dict[str, float]]:
    """The benchmark's further numbers: per metric and policy."""
    found: dict[str, dict[str, float]] = {}
    for policy, summary in summaries.items():
        for name, value in summary.mean.metrics.items():
            found.setdefault(name, {})[policy] = value
    return found


def _unpaired(run: RunContents) -> int:
    """Number of (task, episode) that began in different initial states under different policies."""
    states: dict[tuple[str, int], set[str]] = {}
    for record in run.records:
        if record.error is None:
            states.setdefault((record.task, record.episode), set()).add(record.initial_state)
    return sum(len(found) > 1 for found in states.values())


def _films(run: RunContents) -> dict[str, dict[str, dict[str, Any] | None]]:
    """Per task the film of a success and of a failure, None where there is none."""
    folder = run.folder.videos
    found: dict[str, dict[str, dict[str, Any] | None]] = {}
    made = showable(folder / videos.INDEX, run.folder.path, FilmFacts, lambda name: [name], run.problems)
    for name, facts in made.items():
        pair = found.setdefault(facts.task, {"success": None, "failure": None})
        source = data_uri((folder / name).read_bytes(), "video/mp4")
        pair["success" if facts.success else "failure"] = {**facts.model_dump(), "source": source}
    return {task: found[task] for task in _in_order(run, found)}


def _forecasts(run: RunContents) -> list[dict[str, Any]]:
    folder = run.folder.videos
    made = showable(folder / predictions.INDEX, run.folder.path, ForecastFacts, predictions.files_of, run.problems)
    found = []
    for task in _in_order(run, made):
        picture, film = (folder / name for name in predictions.files_of(task))
        sources = {
            "picture": data_uri(picture.read_bytes(), "image/png"),
            "film": data_uri(film.read_bytes(), "video/mp4"),
        }
        found.append({**made[task].model_dump(), **sources})
    return found


def _in_order(run: RunContents, tasks: Iterable[str]) -> list[str]:
    """Tasks in the benchmark's order."""
    order = [task.name for task in run.benchmark.tasks()] if run.benchmark else []
    chosen = set(tasks)
    return [task for task in order if task in chosen] + sorted(chosen - set(order))


def _stage(run: RunContents, name: str) -> dict[str, Any]:
    planned: dict[str, Any] = next((stage for stage in run.recipe.get("train") or [] if stage.get("name") == name), {})
    curves = {loss: rows for loss, rows in run.curves.get(name, {}).items() if not loss.lower().startswith(_NOT_LOSSES)}
    return {
        "name": name,
        "planned": planned,
        "recorded": run.stage(name),
        "steps_seen": max((rows[-1][0] for rows in curves.values()), default=None),
        "drawing": loss_curves(curves, name) if curves else "",
    }


def composition(recipe: dict[str, Any]) -> list[tuple[str, str]]:
    """Names of the policy's parts, outermost first, by their place in the recipe."""
    found = []
    queue = [("policy", recipe.get("policy"))]
    while queue:
        path, node = queue.pop(0)
        if isinstance(node, dict) and isinstance(node.get("type"), str):
            found.append((path, node["type"]))
            queue += [(f"{path}.{key}", value) for key, value in node.items()]
    return found


def _percent(value: float | None) -> str:
    return "not measured" if value is None else with_sign(value)


def _span(rate: Rate) -> str:
    """Where the interval lies on an axis of 100 %, as CSS."""
    low, high = rate.interval
    return f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"


def _duration(seconds: float | None) -> str:
    return "" if not isinstance(seconds, int | float) else duration(seconds)


def _bytes(count: float | None) -> str:
    return "" if not isinstance(count, int | float) else f"{count / 1e9:.1f} GB"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return "\N{INFINITY}" if math.isinf(value) else f"{value:.3g}"
    return f"{value:,}".replace(",", "\N{THIN SPACE}") if isinstance(value, int) else ""


def _loss(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""
