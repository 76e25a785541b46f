"""Puts a comparison together: rates, tests between every two methods, costs, published numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from videopolicy.compare.model import Comparison, Entry, Pair, SetApart
from videopolicy.compare.runs import MeasuredRun, find_runs
from videopolicy.compare.selection import CHANCE, DEFAULT_POLICIES, Method, Selection, select
from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.errors import VpolicyError, listing
from videopolicy.outcomes import significance
from videopolicy.outcomes.records import mean_rate, task_rate
from videopolicy.quality import read_quality

SUCCESS = "success"


def compare(
    run_folders: Sequence[Path],
    benchmark: str | BenchmarkComponent | None = None,
    policies: Sequence[str] = DEFAULT_POLICIES,
    protocol: str | None = None,
    like: str | None = None,
    trust: bool = False,
) -> Comparison:
    """Compare runs on one benchmark.

    Args:
        run_folders: Run folders, or folders of run folders.
        benchmark: Its name or the component itself; may be left out where all runs are on one. Runs on others are
            left out.
        policies: Which policies of every run.
        protocol: Beginning of the fingerprint of the table's protocol; by default that of most runs.
        like: Name or folder of the run whose protocol and tasks are the table's.
        trust: Whether the Python files that the runs' recipes name may be run, where a benchmark is in one.

    Returns:
        The comparison; without a run on the benchmark, its published numbers alone.

    Raises:
        VpolicyError: A folder, protocol or run does not exist; the benchmark is unknown, or not named where it must be.
    """
    runs = find_runs(run_folders)
    name = benchmark.type if isinstance(benchmark, BenchmarkComponent) else benchmark or _only_benchmark(runs)
    here = [run for run in runs if run.benchmark == name]
    unknown = [run for run in runs if not run.benchmark]
    component = benchmark if isinstance(benchmark, BenchmarkComponent) else None
    if component is None and not here:
        component = _installed(name)
    selection = select(here, policies, protocol, like, component, trust)
    component = selection.component
    tasks = {task.name: task for task in component.tasks()} if component else {}
    names = selection.tasks or tuple(tasks)
    table = _Table(selection)
    reasons = ("its recipe.yaml cannot be read, so its benchmark is unknown",)
    return Comparison(
        benchmark=name,
        protocol=selection.protocol,
        fingerprint=selection.fingerprint,
        tasks=names,
        instructions={task: tasks[task].instruction if task in tasks else "" for task in names},
        tiers={task: tasks[task].tier if task in tasks else "" for task in names},
        entries=table.entries,
        pairs=table.pairs,
        detectable=table.detectable(),
        published=component.published() if component else (),
        set_apart=(*selection.set_apart, *(SetApart(run.name, run.path, reasons) for run in unknown)),
        warnings=(*selection.warnings, *table.warnings),
        remarks=_data_remarks(table.entries, {run.path: run for run in here}),
    )


def _data_remarks(entries: Sequence[Entry], runs: Mapping[Path, MeasuredRun]) -> tuple[str, ...]:
    """What was said of the data when they were read, and of which entries it holds."""
    said: dict[str, list[str]] = {}
    trained = [entry for entry in entries if entry.policy == "trained"]
    for entry in trained:
        provenances = [runs[path].provenance for path in entry.runs]
        remarks = [remark for one in provenances if one is not None for remark in one.data_remarks]
        for remark in dict.fromkeys(remarks):
            said.setdefault(remark, []).append(entry.name)
    return tuple(
        f"Data of {'all methods' if len(names) == len(trained) else listing(names)}: {remark}."
        for remark, names in said.items()
    )


def _only_benchmark(runs: Sequence[MeasuredRun]) -> str:
    counts = Counter(run.benchmark for run in runs if run.benchmark)
    if len(counts) == 1:
        return next(iter(counts))
    if counts:
        found = listing([f"{name} ({count} runs)" for name, count in counts.items()])
        raise VpolicyError(f"The runs are on several benchmarks: {found}.", "Name one with --benchmark.")
    from videopolicy.components.registry import current_registry

    raise VpolicyError(
        "There are no runs to compare.",
        "Make some with `vpolicy run RECIPE`, or name a benchmark with --benchmark to see its published numbers. "
        f"Installed: {listing(current_registry().names('benchmark'))}.",
    )


def _installed(name: str) -> BenchmarkComponent:
    """The benchmark with its defaults."""
    from videopolicy.components.registry import current_registry

    return current_registry().get("benchmark", name).model_validate({"type": name})  # type: ignore[return-value]


@dataclass(frozen=True)
class _Outcomes:
    """A method's outcomes by unit, a unit being a (task, episode).

    Args:
        success, score: Of every seed, ``(S, U)``; NaN without a finished episode.
        states: Number of the initial state, ``(U,)``; -1 without one, or where the seeds began in different ones.
        succeeded, scored: Averages over the seeds that have the unit, ``(U,)``.
    """

    success: np.ndarray
    score: np.ndarray
    states: np.ndarray
    succeeded: np.ndarray
    scored: np.ndarray


class _Table:
    """Rates of every method and tests between every two."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.component = selection.component
        self.ordinal = type(self.component).ordinal if self.component else ""
        self.warnings: list[str] = []
        self._units: dict[tuple[str, int], int] = {}
        self._state_numbers: dict[str, int] = {}
        found = [(self._entry(method), method) for method in selection.methods]
        found.sort(key=lambda one: (one[0].policy == CHANCE, -(one[0].mean.value or 0.0), one[0].name))
        number = {task: index for index, task in enumerate(selection.tasks)}
        for _, method in found:
            for candidate in method.candidates:
                for record in candidate.records:
                    if record.task in number:
                        self._units.setdefault((record.task, record.episode), len(self._units))
        self._task = np.array([number[task] for task, _ in self._units], dtype=int)
        self._outcomes = [self._outcomes_of(method) for _, method in found]
        entries = [self._with_intervals(entry, o) for (entry, _), o in zip(found, self._outcomes, strict=True)]
        self.pairs = self._pairs(entries)
        names = {entry.name: index for index, entry in enumerate(entries)}
        different = [
            (names[pair.first], names[pair.second])
            for pair in self.pairs
            if pair.measure == SUCCESS and pair.p_adjusted <= significance.LEVEL
        ]
        letters = significance.compact_letters(len(entries), different)
        self.entries = tuple(replace(entry, letters=text) for entry, text in zip(entries, letters, strict=True))
        self._warn_of_episodes()

    def _entry(self, method: Method) -> Entry:
        wanted = set(self.selection.tasks)
        by_task: dict[str, list] = {task: [] for task in self.selection.tasks}
        for candidate in method.candidates:
            for record in candidate.records:
                if record.task in wanted:
                    by_task[record.task].append(record)
        tasks = tuple(task_rate(task, records, self.component) for task, records in by_task.items())
        tiers = {task.name: task.tier for task in self.component.tasks()} if self.component else {}
        named = dict.fromkeys(tier for task in by_task if (tier := tiers.get(task, "")))
        everything = [record for records in by_task.values() for record in records]
        metrics = task_rate("mean", everything, self.component).metrics
        first = method.candidates[0].run
        return Entry(
            method.name,
            method.policy,
            tuple(candidate.run.path for candidate in method.candidates),
            tuple(candidate.run.seed for candidate in method.candidates),
            tasks,
            tuple(mean_rate(tier, [rate for rate in tasks if tiers.get(rate.name) == tier]) for tier in named),
            mean_rate("mean", tasks, metrics),
            cost=first.cost(method.policy),
            quality=read_quality(first.path) if method.policy == "trained" else None,
            records=tuple(candidate.records for candidate in method.candidates),
        )

    def _outcomes_of(self, method: Method) -> _Outcomes:
        count = len(self._units)
        success, score = (np.full((len(method.candidates), count), np.nan) for _ in range(2))
        states = np.full((len(method.candidates), count), -1)
        for row, candidate in enumerate(method.candidates):
            for record in candidate.records:
                unit = self._units.get((record.task, record.episode))
                if unit is None or record.error is not None:
                    continue
                success[row, unit] = record.success
                score[row, unit] = record.score
                states[row, unit] = self._state_numbers.setdefault(record.initial_state, len(self._state_numbers))
        finished = np.isfinite(success)
        seeds = np.maximum(finished.sum(axis=0), 1)
        none = np.where(finished.any(axis=0), 0.0, np.nan)
        last = states.max(axis=0)
        same = ((states == last) | ~finished).all(axis=0)
        return _Outcomes(
            success,
            score,
            np.where(same, last, -1),
            np.nansum(success, axis=0) / seeds + none,
            np.nansum(score, axis=0) / seeds + none,
        )

    def _with_intervals(self, entry: Entry, outcomes: _Outcomes) -> Entry:
        if len(entry.runs) > 1:
            entry = replace(entry, seed_interval=significance.two_level_interval(outcomes.success, self._task))
        if self.ordinal:
            interval = significance.two_level_interval(outcomes.score, self._task)
            if interval is not None:
                entry = replace(entry, scores={self.ordinal: (self._mean_score(outcomes), interval)})
        return entry

    def _mean_score(self, outcomes: _Outcomes) -> float:
        """Mean over tasks of the mean over all episodes of all seeds."""
        numbers = range(len(self.selection.tasks))
        return float(np.mean([np.nanmean(outcomes.score[:, self._task == number]) for number in numbers]))

    def _pairs(self, entries: Sequence[Entry]) -> tuple[Pair, ...]:
        found = list(self._success_pairs(entries))
        if self.ordinal:
            found += self._score_pairs(entries)
        return tuple(found)

    def _success_pairs(self, entries: Sequence[Entry]) -> list[Pair]:
        pairs: list[Pair] = []
        unpaired, partly = [], []
        for i, j, ours, theirs, both, equal in self._combinations():
            first, second = entries[i], entries[j]
            difference = (first.mean.value or 0.0) - (second.mean.value or 0.0)
            gains = (ours.succeeded - theirs.succeeded)[equal]
            won, lost = int(np.count_nonzero(gains > 0)), int(np.count_nonzero(gains < 0))
            one_seed = len(first.runs) == len(second.runs) == 1
            paired, shared = int(np.count_nonzero(equal)), int(np.count_nonzero(both))
            if _is_paired(both, equal):
                if paired < shared:
                    partly.append(f"{first.name} - {second.name} ({shared - paired} of {shared})")
                # One seed each is tested below, with all other pairs at once.
                name, p = ("McNemar, exact", np.nan) if one_seed else ("permutation, paired", np.nan)
                if not one_seed:
                    p = significance.sign_flips(gains)
            else:
                unpaired.append(f"{first.name} - {second.name}")
                won = lost = paired = 0
                if one_seed:
                    name, p = significance.unpaired(_counts(first), _counts(second))
                else:
                    name, p = "permutation, unpaired", self._permutation(ours.succeeded, theirs.succeeded)
            pairs.append(Pair(first.name, second.name, difference, name, SUCCESS, paired, won, lost, p, p))
        if unpaired:
            self.warnings.append(
                "Initial states are not equal, so these are compared without pairing, which shows less: "
                f"{listing(unpaired)}."
            )
        if partly:
            self.warnings.append(f"Episodes with other initial states are left out of these pairs: {listing(partly)}.")
        return _adjusted(pairs)

    def _score_pairs(self, entries: Sequence[Entry]) -> list[Pair]:
        pairs = []
        for i, j, ours, theirs, both, equal in self._combinations():
            first, second = entries[i], entries[j]
            difference = first.scores[self.ordinal][0] - second.scores[self.ordinal][0]
            gains = (ours.scored - theirs.scored)[equal]
            won, lost, paired = int(np.sum(gains > 0)), int(np.sum(gains < 0)), int(equal.sum())
            if _is_paired(both, equal):
                name, p = "permutation, paired", significance.sign_flips(gains)
            else:
                name, p = "permutation, unpaired", self._permutation(ours.scored, theirs.scored)
                won = lost = paired = 0
            pairs.append(Pair(first.name, second.name, difference, name, self.ordinal, paired, won, lost, p, p))
        return _adjusted(pairs)

    def _combinations(self) -> Iterator[tuple[int, int, _Outcomes, _Outcomes, np.ndarray, np.ndarray]]:
        """Every two methods, the units that both have, and those among them with equal initial states."""
        finished = [np.isfinite(outcomes.succeeded) for outcomes in self._outcomes]
        for i, ours in enumerate(self._outcomes):
            for j in range(i + 1, len(self._outcomes)):
                theirs = self._outcomes[j]
                both = finished[i] & finished[j]
                yield i, j, ours, theirs, both, both & (ours.states == theirs.states) & (ours.states >= 0)

    def _permutation(self, ours: np.ndarray, theirs: np.ndarray) -> float:
        return significance.permutation(ours[np.isfinite(ours)], theirs[np.isfinite(theirs)])

    def detectable(self) -> float | None:
        """Of a typical pair of methods: median number of pairs, mean share of discordant ones."""
        chance = {entry.name for entry in self.entries if entry.policy == CHANCE}
        paired = [pair for pair in self.pairs if pair.measure == SUCCESS and pair.pairs]
        decisive = [pair for pair in paired if not {pair.first, pair.second} & chance] or paired
        if not decisive:
            return None
        discordance = float(np.mean([(pair.won + pair.lost) / pair.pairs for pair in decisive]))
        return significance.detectable_difference(int(np.median([pair.pairs for pair in decisive])), discordance)

    def _warn_of_episodes(self) -> None:
        broken = [f"{entry.name} {entry.mean.errors}" for entry in self.entries if entry.mean.errors]
        if broken:
            self.warnings.append(f"Episodes that ended in simulator errors are in no number: {listing(broken)}.")
        counts: dict[tuple[tuple[str, int], ...], list[str]] = {}
        for entry, outcomes in zip(self.entries, self._outcomes, strict=True):
            ran = np.isfinite(outcomes.succeeded)
            numbers = Counter(self._task[ran].tolist())
            counts.setdefault(tuple(sorted(numbers.items())), []).append(entry.name)
        if len(counts) > 1:
            stated = [
                f"{_span([count for _, count in numbers])} a task: {listing(names)}"
                for numbers, names in counts.items()
            ]
            self.warnings.append(
                f"Numbers of episodes differ ({'; '.join(stated[:4])}). Every rate is over its own episodes; tests use "
                "those that both methods have."
            )


def _is_paired(both: np.ndarray, equal: np.ndarray) -> bool:
    """Whether most episodes that two methods share began in the same state."""
    equals = int(np.count_nonzero(equal))
    return equals > 0 and 2 * equals >= int(np.count_nonzero(both))


def _counts(entry: Entry) -> np.ndarray:
    return np.array([(rate.successes, rate.episodes) for rate in entry.tasks])


def _adjusted(pairs: Sequence[Pair]) -> list[Pair]:
    """With McNemar's test where it is due, and Holm's correction over all."""
    if not pairs:
        return []
    exact = significance.mcnemar(np.array([pair.won for pair in pairs]), np.array([pair.lost for pair in pairs]))
    p = np.array([one if np.isnan(pair.p) else pair.p for pair, one in zip(pairs, exact, strict=True)])
    return [
        replace(pair, p=float(raw), p_adjusted=float(adjusted))
        for pair, raw, adjusted in zip(pairs, p, significance.holm(p), strict=True)
    ]


def _span(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
