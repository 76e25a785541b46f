"""The papers' tables: every benchmark can be asked for them, and their averages are added up again."""

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
# The same of numbers that no benchmark here measures.
NOT_THE_PAPERS_OWN_ELSEWHERE = {
    ("Table 7, seen tasks", "Diffusion Policy"): "0.288",
    ("Table 7, seen tasks", "Susie"): "0.451",
    ("Table 7, seen tasks", "GR-1"): "0.320",
    ("Table 7, unseen tasks", "Diffusion Policy"): "0.112",
    ("Table 7, unseen tasks", "Susie"): "0.281",
    ("Table 7, tool use", "Susie"): "0.175",
}
# Episodes of each task by which VPP's means are weighted: of those that are named, and of all others.
WEIGHTS = {
    "Table 6, seen tasks": ({"Pick": 50, "Place": 50}, 20),
    "Table 6, unseen tasks": ({"Pick": 25, "Place": 25}, 10),
    "Table 7, seen tasks": ({"Pick": 100, "Pick&Place": 100}, 25),
    "Table 7, unseen tasks": ({"Pick": 50, "Pick&Place": 50}, 20),
}
# Tables with both rows and an average; a table that is lost would otherwise go unnoticed.
COLUMNS = {"calvin": 10 + 2 + 4, "libero": 1, "metaworld": 5, "robocasa": 10 + 5 + 4 + 3}


def columns(name: str, elsewhere: bool = False) -> dict[tuple[str, str, str], list[PublishedNumber]]:
    """Numbers by benchmark, table and method."""
    found = defaultdict(list)
    for number in BENCHMARKS[name]().published():
        if (number.kind == "elsewhere") != elsewhere:
            continue
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


def values_of(name: str, table: str) -> dict[str, dict[str, float]]:
    """Values by method and group of one table of other robots, data or machines."""
    found: dict[str, dict[str, float]] = {}
    for (_, source, method), numbers in columns(name, elsewhere=True).items():
        if source == table:
            found[method] = {number.group: number.value for number in numbers}
    return found


def test_averages_of_real_robots_are_those_of_their_rows_but_for_known_exceptions():
    different, count = {}, 0
    for (_, table, method), numbers in columns("calvin", elsewhere=True).items():
        rows = {number.group: Decimal(str(number.value)) for number in numbers}
        printed = rows.pop("mean", None)
        if printed is None:
            continue
        count += 1
        known, others = WEIGHTS.get(table, ({}, 1))
        weights = {group: known.get(group, others) for group in rows}
        mean = sum((weights[group] * value for group, value in rows.items()), Decimal(0)) / sum(weights.values())
        # The tables of categories have three digits, that of tools two: one half of the last is what rounding allows.
        if abs(mean - printed) > Decimal("0.005" if table.endswith("tool use") else "0.0005"):
            different[table, method] = str(mean.quantize(Decimal("0.001"), ROUND_HALF_UP))
            assert different[table, method] in numbers[0].note
    assert count == 5 * 4 and different == NOT_THE_PAPERS_OWN_ELSEWHERE


def test_vpps_table_of_means_shortens_those_of_its_categories():
    printed = values_of("calvin", "Table 5")
    for method, name in (("DP", "Diffusion Policy"), ("Susie", "Susie"), ("GR-1", "GR-1"), ("VPP", "VPP")):
        for robot, table in (("Panda", "Table 6"), ("Dexterous hand", "Table 7")):
            for tasks in ("seen tasks", "unseen tasks"):
                whole = values_of("calvin", f"{table}, {tasks}")[name]["mean"]
                short = printed[method][f"{robot}, {tasks}"]
                if (name, table, tasks) == ("Susie", "Table 7", "unseen tasks"):
                    assert (short, whole) == (0.28, 0.328)
                else:
                    assert abs(short - whole) < 0.01
        assert printed[method]["Dexterous hand, tool use"] == values_of("calvin", "Table 7, tool use")[name]["mean"]


def test_vpps_mixture_of_data_adds_up():
    found = values_of("calvin", "Table 8")
    total = found.pop("Total")
    assert len(found) == 10
    assert sum(column["trajectories"] for column in found.values()) == total["trajectories"] == 375_192
    assert sum(Decimal(str(column["sample ratio"])) for column in found.values()) == total["sample ratio"] == 1


def test_block_pushing_averages_to_the_papers_means():
    found = values_of("libero", "Table V")
    for method, rows in found.items():
        mean = rows.pop("mean")
        missing = 4 - len(rows)
        assert missing == (1 if method == "DP-C" else 0)
        assert sum(rows.values()) / 4 - 0.005 <= mean <= (sum(rows.values()) + missing) / 4 + 0.005


def test_the_main_numbers_of_the_other_tables_are_there():
    assert values_of("calvin", "Table 9")["VPP"] == {"Bridge": 41.4}
    assert values_of("robocasa", "Table 4")["Unseen Objects"] == {
        "Open Drawer": 1.0,
        "Pick and Place": 0.9,
        "M&Ms to Cup": 0.9,
        "Upright Object": 0.7,
        "Stack Cups": 0.2,
    }
    assert values_of("libero", "Table II")["UVA"]["Mouse, multi-task"] == 0.80
    assert values_of("libero", "Table II, speed") == {"DP-UMI": {"milliseconds": 70}, "UVA": {"milliseconds": 95}}
    speed = {method: column["seconds"] for method, column in values_of("libero", "Table I, speed").items()}
    assert len(speed) == 8 and (speed["UVA"], speed["DP-C"], speed["UniPi"]) == (0.23, 0.50, 24.07)
    assert values_of("libero", "Table VI")["UVA"] == {"position in cm": 0.75, "rotation in degrees": 1.11}
    assert values_of("libero", "Table IV, Cup Arrangement")["UVA (8 steps)"] == {"mean": 29.72}


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_numbers_of_elsewhere_are_never_among_those_of_the_benchmark(name: str):
    """A metric of another robot, data set or machine has a name of its own: nothing is ever compared with it."""
    numbers = BENCHMARKS[name]().published()
    elsewhere = {n.metric for n in numbers if n.kind == "elsewhere"}
    assert not {"success", "average chain length", "mean max coverage"} & elsewhere
