"""Which runs can stand in one table: the same benchmark, protocol and tasks; and which of them are one method."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from videopolicy.compare.model import SetApart
from videopolicy.compare.runs import MeasuredRun, benchmark_component
from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.errors import VpolicyError, listing
from videopolicy.outcomes.records import EpisodeRecord, mean_rate, task_rate
from videopolicy.storage.identity import digest
from videopolicy.storage.provenance import differences

DEFAULT_POLICIES = ("trained", "random")
CHANCE = "random"
"""The policy that is the same whatever the run."""


@dataclass(frozen=True)
class Candidate:
    """One policy of one run.

    Args:
        run: The run.
        policy: Such as ``trained``.
        records: Its episodes, all under one protocol.
        fingerprint: Of that protocol.
    """

    run: MeasuredRun
    policy: str
    records: tuple[EpisodeRecord, ...]
    fingerprint: str

    @cached_property
    def tasks(self) -> frozenset[str]:
        """Tasks with a finished episode."""
        return frozenset(record.task for record in self.records if record.error is None)


@dataclass(frozen=True)
class Method:
    """Candidates that differ in nothing but their run's name and seed, by seed."""

    name: str
    policy: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Selection:
    """What goes into the table.

    Args:
        component: The benchmark as the table's runs configure it; None where its plugin is not installed.
        fingerprint: Of the table's protocol.
        protocol: The protocol itself.
        tasks: Names, in the benchmark's order.
        methods: By name.
        set_apart: What does not go into it.
        warnings: One sentence each.
    """

    component: BenchmarkComponent | None
    fingerprint: str
    protocol: Mapping[str, Any]
    tasks: tuple[str, ...]
    methods: tuple[Method, ...]
    set_apart: tuple[SetApart, ...]
    warnings: tuple[str, ...]


def select(
    runs: Sequence[MeasuredRun],
    policies: Sequence[str] = DEFAULT_POLICIES,
    protocol: str | None = None,
    like: str | None = None,
    component: BenchmarkComponent | None = None,
    trust: bool = False,
) -> Selection:
    """Choose the table's protocol and tasks, and what can stand in it.

    Without `protocol` or `like`, the protocol is that of most runs, and the tasks are those of most of its runs. A run
    that lacks one of the tasks is set apart; of a run with more tasks only these count.

    Args:
        runs: Of one benchmark.
        policies: Which policies of every run.
        protocol: Beginning of the fingerprint of the table's protocol.
        like: Name or folder of the run whose protocol and tasks are the table's.
        component: The benchmark, where it is at hand already.
        trust: Whether Python files that recipes name may be run where it is not.

    Raises:
        VpolicyError: There is no such protocol or run.
    """
    warnings = [problem for run in runs for problem in run.problems]
    set_apart: list[SetApart] = []
    candidates: list[Candidate] = []
    for run in runs:
        found = list(_candidates(run, policies, warnings))
        if not found:
            set_apart.append(SetApart(run.name, run.path, (f"no episodes of {' or '.join(policies)}",)))
        candidates += found
    if not candidates:
        return Selection(component, "", {}, (), (), tuple(set_apart), tuple(warnings))
    model = _named(candidates, like) if like else None
    fingerprint = model.fingerprint if model else _fingerprint(candidates, protocol)
    same = [candidate for candidate in candidates if candidate.fingerprint == fingerprint]
    reference: Mapping[str, Any] = next(
        (c.run.protocol for c in [*([model] if model else ()), *same] if c.run.protocol), {}
    )
    others = [candidate for candidate in candidates if candidate.fingerprint != fingerprint]
    set_apart += _apart(others, lambda c: _differences(c, fingerprint, reference))
    tasks = model.tasks if model else _most_common_tasks(same)
    lacking = [candidate for candidate in same if not tasks <= candidate.tasks]
    kept = [candidate for candidate in same if tasks <= candidate.tasks]
    measured = [candidate for candidate in lacking if candidate.policy != CHANCE]
    set_apart += _apart(measured, lambda c: (f"no finished episodes of {listing(tasks - c.tasks)}",))
    if more := frozenset().union(*(candidate.tasks for candidate in kept)) - tasks:
        warnings.append(f"Only tasks that every run has are compared; left out: {listing(more)}.")
    if component is None:
        component, reason = _component(kept, tasks, trust)
        if component is None:
            warnings.append(f"Tiers and published numbers are left out: {reason}")
    order = [task.name for task in component.tasks()] if component else []
    recorded = list(dict.fromkeys(record.task for candidate in kept for record in candidate.records))
    ordered = tuple(task for task in dict.fromkeys([*order, *recorded]) if task in tasks)
    methods = _methods(kept, warnings)
    return Selection(component, fingerprint, reference, ordered, methods, tuple(set_apart), tuple(warnings))


def _candidates(run: MeasuredRun, policies: Sequence[str], warnings: list[str]) -> Iterator[Candidate]:
    by_policy: dict[str, list[EpisodeRecord]] = {policy: [] for policy in policies}
    for record in run.records:
        if record.policy in by_policy:
            by_policy[record.policy].append(record)
    for policy, records in by_policy.items():
        if not records:
            continue
        (fingerprint, count), *others = Counter(record.protocol for record in records).most_common()
        if others:
            warnings.append(
                f"{run.path}: {len(records) - count} episodes of {policy} are under other protocols than "
                f"{fingerprint}, skipped."
            )
            records = [record for record in records if record.protocol == fingerprint]
        yield Candidate(run, policy, tuple(records), fingerprint)


def _named(candidates: Sequence[Candidate], like: str) -> Candidate:
    found = [c for c in candidates if c.run.name == like or c.run.path.resolve() == Path(like).resolve()]
    if not found:
        raise VpolicyError(
            f"No run with episodes is called '{like}'.", f"Runs: {listing({c.run.name for c in candidates})}."
        )
    return found[0]


def _fingerprint(candidates: Sequence[Candidate], protocol: str | None) -> str:
    """The protocol asked for, or that of most runs; of equally many, that of most episodes."""
    runs: Counter[str] = Counter()
    for fingerprint, _ in {(c.fingerprint, c.run.path) for c in candidates}:
        runs[fingerprint] += 1
    episodes: Counter[str] = Counter()
    for candidate in candidates:
        episodes[candidate.fingerprint] += len(candidate.records)
    known = sorted(runs, key=lambda one: (-runs[one], -episodes[one], one))
    if protocol is None:
        return known[0]
    found = [one for one in known if one.startswith(protocol)]
    if len(found) != 1:
        raise VpolicyError(
            f"{'Several protocols have' if found else 'No run has'} a fingerprint that begins with '{protocol}'.",
            f"Protocols: {listing([f'{one} ({runs[one]} runs)' for one in known])}.",
        )
    return found[0]


def _most_common_tasks(candidates: Sequence[Candidate]) -> frozenset[str]:
    """The tasks of most runs; of equally many runs, those that most other runs have too."""
    tasks = [c.tasks for c in candidates if c.policy != CHANCE] or [c.tasks for c in candidates]
    counts = Counter(tasks)
    return min(counts, key=lambda one: (-counts[one], -sum(one <= other for other in tasks), -len(one), sorted(one)))


def _apart(candidates: Sequence[Candidate], reasons: Any) -> Iterator[SetApart]:
    """One entry a run, for its most informative policy."""
    runs: dict[Path, Candidate] = {}
    for candidate in candidates:
        runs.setdefault(candidate.run.path, candidate)
    for path, candidate in runs.items():
        tasks = sorted(candidate.tasks)
        rates = [task_rate(task, [r for r in candidate.records if r.task == task], None) for task in tasks]
        yield SetApart(candidate.run.name, path, tuple(reasons(candidate)), mean_rate("mean", rates))


def _differences(candidate: Candidate, fingerprint: str, reference: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs from the table's protocol, field by field."""
    found = differences(reference, candidate.run.protocol)
    if found and reference and candidate.run.protocol:
        return tuple(f"{name}: {theirs} instead of {ours}" for name, (ours, theirs) in found.items())
    return (f"protocol: {candidate.fingerprint} instead of {fingerprint} (identity.json does not say what differs)",)


def _component(kept: Sequence[Candidate], tasks: frozenset[str], trust: bool) -> tuple[BenchmarkComponent | None, str]:
    """The benchmark of the first run that configures just the table's tasks, or at least all of them."""
    tried: dict[str, BenchmarkComponent | None] = {}
    reason = "no run says its benchmark"
    best = None
    for candidate in kept:
        recipe = candidate.run.recipe
        key = digest([recipe.get("benchmark"), recipe.get("plugins")])
        if key in tried:
            continue
        tried[key], problem = benchmark_component(candidate.run, trust)
        component = tried[key]
        if component is None:
            reason = problem
            continue
        names = {task.name for task in component.tasks()}
        if names == tasks:
            return component, ""
        if best is None or (tasks <= names and not tasks <= {task.name for task in best.tasks()}):
            best = component
    return best, reason


def _methods(kept: Sequence[Candidate], warnings: list[str]) -> tuple[Method, ...]:
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in kept:
        method = "" if candidate.policy == CHANCE else candidate.run.method
        groups.setdefault((candidate.policy, method), []).append(candidate)
    found: list[Method] = []
    for (policy, _), group in groups.items():
        seeds: dict[int, Candidate] = {}
        for candidate in sorted(group, key=lambda c: (c.run.seed, -len(c.records), c.run.name, str(c.run.path))):
            first = seeds.setdefault(candidate.run.seed, candidate)
            if first is not candidate and policy != CHANCE:
                warnings.append(
                    f"{candidate.run.path} repeats recipe and seed of {first.run.path}: only the latter counts."
                )
        members = tuple(seeds.values())
        name = _common_name([c.run.name for c in members])
        found.append(Method(_label(name, policy), policy, members))
    return tuple(sorted(_with_own_names(_without_common_beginning(found)), key=lambda method: method.name))


def _without_common_beginning(methods: Sequence[Method]) -> list[Method]:
    """Rows of one ablation are called ``<file>-<row>``: where all names begin so, the row alone says it."""
    names = [method.name for method in methods if method.policy != CHANCE]
    common = os.path.commonprefix(names) if len(names) > 1 else ""  # noqa: RUF071 - of names, not of paths
    length = common.rfind("-") + 1
    return [m if m.policy == CHANCE else Method(m.name[length:] or m.name, m.policy, m.candidates) for m in methods]


def _label(name: str, policy: str) -> str:
    if policy == CHANCE:
        return CHANCE
    return name if policy == "trained" else f"{name} ({policy})"


def _common_name(names: Sequence[str]) -> str:
    """What the names of one method's runs have in common, without what counts the seeds."""
    if len(names) == 1:
        return names[0]
    common = os.path.commonprefix(list(names))  # noqa: RUF071 - of names, not of paths
    return common if common in names else re.sub(r"([-_.]+s(eed)?)?[-_.]*\d*$", "", common) or names[0]


def _with_own_names(methods: Sequence[Method]) -> Iterator[Method]:
    """Methods of one name get the folder before it, or a number where that does not help."""
    taken = Counter(method.name for method in methods)
    used: set[str] = set()
    for method in methods:
        name = method.name
        if taken[name] > 1:
            name = f"{method.candidates[0].run.path.resolve().parent.name}/{name}"
        number = 2
        while name in used:
            name, number = f"{name.removesuffix(f' #{number - 1}')} #{number}", number + 1
        used.add(name)
        yield Method(name, method.policy, method.candidates)
