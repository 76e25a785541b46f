"""The papers' tables: every benchmark can be asked for them, and their averages are added up anew."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import ROUND_HALF_UP, Decimal

import pytest

from videopolicy import BenchmarkComponent, PublishedNumber
from videopolicy.components.plugins import installed_plugins

BENCHMARKS = {
    component.name(): component
    for plugin in installed_plugins()
    if plugin.distribution.startswith("vpolicy-")
    for component in plugin.components
    if issubclass(component, BenchmarkComponent)
}

# Where a paper's rows give another average than it prints, and what they give. Every one is in a note of its table.
NOT_THE_PAPERS_OWN = {
    # Rows of three digits allow 2.4725 to 2.4775.
    ("calvin", "Table 1", "Robo-Flamingo"): "2.48",
    ("calvin", "Table 1, data efficiency", "GR-1 (10 % of ABC)"): "1.42",
    # Weighted by 28, 11 and 11 tasks.
    ("metaworld", "Table 2", "RT-1"): "0.351",
    ("metaworld", "Table 2", "Diffusion Policy"): "0.282",
    ("metaworld", "Table 2", "Susie"): "0.413",
    ("metaworld", "Table 2", "GR-1"): "0.577",
    ("robocasa", "Table 1", "DP-CLIP"): "0.41",
    ("robocasa", "Table 1", "DP-VLA"): "0.59",
}
# Columns with numbers that cannot be read in the text of the paper: the average must lie between those that failures
# and successes in their place give.
INCOMPLETE = {
    *(("robocasa", "Table 7", f"GR00T ({count})") for count in (30, 100)),
    *(("robocasa", "Table 8", f"Joint {steps} Steps") for steps in (32, 16, 0)),
}
# Tables with both rows and an average; a table that is lost would otherwise go unnoticed.
COLUMNS = {"calvin": 10 + 2 + 4, "libero": 1, "metaworld": 5, "robocasa": 10 + 5 + 4 + 3}


def columns(name: str) -> dict[tuple[str, str, str], list[PublishedNumber]]:
    """Numbers by benchmark, table and method."""
    found = defaultdict(list)
    for number in BENCHMARKS[name]().published():
        found[name, number.source.partition("), ")[2], number.method].append(number)
    return found


def readded(name: str, numbers: list[PublishedNumber]) -> tuple[Decimal, Decimal, Decimal] | None:
    """The lowest and highest average that the rows allow, and the printed one; None without rows or average."""
    benchmark = BENCHMARKS[name]()
    printed = [n for n in numbers if n.group == "mean"]
    rows = {n.group: Decimal(str(n.value)) for n in numbers if n.group != "mean"}
    if len(printed) != 1 or not rows:
        return None
    mean = Decimal(str(printed[0].value))
    if benchmark.ordinal:  # Success after 1, 2, ... tasks adds up to the mean number of tasks.
        total = sum(rows.values(), Decimal(0))
        return total, total, mean
    tasks, tiers = [task.name for task in benchmark.tasks()], Counter(task.tier for task in benchmark.tasks())
    weights = tiers if set(rows) <= set(tiers) else Counter(tasks)
    assert set(rows) <= set(weights), f"{set(rows) - set(weights)} are neither tasks nor tiers of {name}"
    total = sum((weights[group] * value for group, value in rows.items()), Decimal(0))
    missing = len(tasks) - sum(weights[group] for group in rows)
    return total / len(tasks), (total + missing) / len(tasks), mean


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_benchmark_answers_without_options_or_a_simulator(name: str):
    benchmark = BENCHMARKS[name].model_validate({"type": name})
    assert benchmark.tasks() and benchmark.protocol()
    numbers = benchmark.published()
    assert any(number.kind == "main" for number in numbers)
    keys = Counter((n.source, n.metric, n.method, n.group) for n in numbers)
    assert [key for key, count in keys.items() if count > 1] == []
    assert all("Table" in number.source and ", 20" in number.source for number in numbers)
    measured = benchmark.metrics([{"score": 1.0, "success": True}])
    assert not benchmark.ordinal or set(measured) & {number.metric for number in numbers}


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_averages_are_those_of_their_rows_but_for_known_exceptions(name: str):
    different, incomplete, count = {}, set(), 0
    for key, numbers in columns(name).items():
        found = readded(name, numbers)
        if found is None:
            continue
        count += 1
        low, high, mean = found
        precision = Decimal("0.001" if name == "metaworld" else "0.01")
        low, high = (value.quantize(precision, ROUND_HALF_UP) for value in (low, high))
        if low != high:
            incomplete.add(key)
        if not low <= mean <= high:
            different[key] = str(low)
            assert numbers[0].note, f"{key} has no note"
    assert count == COLUMNS.get(name, 0)
    assert different == {key: value for key, value in NOT_THE_PAPERS_OWN.items() if key[0] == name}
    assert incomplete == {key for key in INCOMPLETE if key[0] == name}
