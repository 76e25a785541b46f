"""What the rows of an ablation have come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from videopolicy.compare.comparison import compare
from videopolicy.compare.model import Comparison, Entry
from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.errors import listing
from videopolicy.outcomes.intervals import Interval
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.recipes.ablation import LoadedAblation, Variant
from videopolicy.storage.provenance import differences
from videopolicy.storage.run_folder import RunFolder

Verdict = Literal["inside", "outside", "not run", "not measured", "other base", "no number"]

SUCCESS = "success"

MEANINGS: dict[Verdict, str] = {
    "inside": "the paper's number lies in our 95 % interval",
    "outside": "it does not",
    "not run": "no episode has finished yet",
    "not measured": "these runs do not measure the paper's metric",
    "other base": "another recipe than the paper's was put under the rows: the numbers are not to be compared",
    "no number": "the paper gives none for this row",
}


@dataclass(frozen=True)
class RowOutcome:
    """One row.

    Args:
        name: As the paper calls it.
        run: Its run folder, which need not exist.
        paper: The published number.
        paper_episodes: Episodes behind it, where the paper says so.
        ours: The same metric, measured here; None where it was not.
        interval: Of ``ours``, 95 %; None where the metric has none.
        episodes: Finished episodes.
        errors: Episodes that the simulator could not finish; in no other number.
        processor_seconds: What training took; None where it was not recorded.
        letters: Rows that share a letter do not differ significantly; empty where the runs cannot be compared.
        verdict: Paper against ours.
    """

    name: str
    run: Path
    paper: float | None
    paper_episodes: int | None
    ours: float | None
    interval: Interval | None
    episodes: int
    errors: int
    processor_seconds: float | None
    letters: str
    verdict: Verdict


@dataclass(frozen=True)
class Outcome:
    """The whole table.

    Args:
        title: Name of the ablation file, and of the base that was put under its rows, if any.
        source: Paper and table.
        metric: What the paper gives.
        measured: What ours are: the same, or success where another base measures nothing of that name.
        rows: In the paper's order.
        warnings: One sentence each.
    """

    title: str
    source: str
    metric: str
    measured: str
    rows: tuple[RowOutcome, ...]
    warnings: tuple[str, ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Those that occur, in the order of `MEANINGS`."""
        found = {row.verdict for row in self.rows}
        return tuple(verdict for verdict in MEANINGS if verdict in found)


def measured(variants: Sequence[Variant], runs: Path) -> list[Comparison]:
    """Compare the rows that have finished episodes, those of one protocol with each other."""
    groups: dict[str, list[Path]] = {}
    benchmarks: dict[str, BenchmarkComponent] = {}
    for variant in variants:
        folder = runs / variant.recipe.name
        records = EpisodeLog(RunFolder(folder).episodes_file).read()
        # Of the records, not of the recipe: what the simulator said of itself is in it.
        fingerprints = [record.protocol for record in records if record.policy == "trained"]
        if fingerprints:
            key = Counter(fingerprints).most_common(1)[0][0]
            groups.setdefault(key, []).append(folder)
            benchmarks.setdefault(key, variant.recipe.benchmark)
    # The file's own benchmark: what a folder names is not run.
    return [compare(folders, benchmarks[key], policies=("trained",)) for key, folders in groups.items()]


def outcome(
    title: str,
    loaded: LoadedAblation,
    runs: Path,
    comparisons: Sequence[Comparison],
    other_base: bool,
) -> Outcome:
    """Set what was measured beside what was printed.

    Args:
        title: Of the table.
        loaded: The file and its rows.
        runs: Folder of run folders.
        comparisons: From `measured`.
        other_base: Whether the rows were put on another recipe than the paper's.
    """
    ablation = loaded.ablation
    entries = {run.resolve(): entry for one in comparisons for entry in one.entries for run in entry.runs}
    known = any(_measured(entry, ablation.metric)[0] is not None for entry in entries.values())
    metric = SUCCESS if other_base and entries and not known else ablation.metric
    rows = tuple(
        _row(variant, runs, entries.get((runs / variant.recipe.name).resolve()), metric, other_base)
        for variant in loaded.variants
    )
    warnings = [*loaded.left_out, *(warning for one in comparisons for warning in one.warnings)]
    if len(comparisons) > 1:
        # Letters speak of one table at a time.
        rows = tuple(replace(row, letters="") for row in rows)
        first, *others = (one.protocol for one in comparisons)
        names = {name for other in others for name in differences(first, other)}
        what = f" They differ in {listing(names)}." if names else ""
        warnings.append(f"The rows are evaluated under different protocols, so no test compares them.{what}")
    return Outcome(title, ablation.source, ablation.metric, metric, rows, tuple(warnings))


def _row(variant: Variant, runs: Path, entry: Entry | None, metric: str, other_base: bool) -> RowOutcome:
    published = variant.row.published
    ours, interval = _measured(entry, metric) if entry else (None, None)
    episodes = entry.mean.episodes if entry else 0
    verdict: Verdict
    if not episodes:
        verdict = "not run"
    elif ours is None:
        verdict = "not measured"
    elif published is None:
        verdict = "no number"
    elif other_base:
        verdict = "other base"
    elif interval is None:
        verdict = "not measured"
    else:
        verdict = "inside" if interval.low <= published.value <= interval.high else "outside"
    return RowOutcome(
        variant.row.name,
        runs / variant.recipe.name,
        published.value if published else None,
        published.episodes if published else None,
        ours,
        interval,
        episodes,
        entry.mean.errors if entry else 0,
        entry.cost.processor_seconds if entry else None,
        entry.letters if entry else "",
        verdict,
    )


def _measured(entry: Entry, metric: str) -> tuple[float | None, Interval | None]:
    """The value of a metric and its interval, as far as these runs have them."""
    if metric == SUCCESS:
        return entry.mean.value, entry.mean.interval
    if metric in entry.scores:
        return entry.scores[metric]
    if metric in entry.mean.metrics:
        value = entry.mean.metrics[metric]
        # A paper's name for the mean of the ordinal score: the same number, whose interval is known.
        same = [interval for mean, interval in entry.scores.values() if abs(mean - value) < 1e-9]
        return value, same[0] if same else None
    quality = entry.quality.values if entry.quality else {}
    return quality.get(metric.lower()), None
