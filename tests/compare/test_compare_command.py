"""``vpolicy compare`` on run folders: what stands in the table, what is set apart, and what is said about it."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from command import vpolicy as command_here

from videopolicy.compare.comparison import compare
from videopolicy.compare.grid import left_out_tables, sections
from videopolicy.compare.model import Comparison, Entry, Pair
from videopolicy.errors import VpolicyError
from videopolicy.outcomes.published import of_elsewhere, published_tables


def _load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


write_run = _load("run_folders").write_run

GOOD = {"red": [True] * 9 + [False], "blue": [True] * 8 + [False] * 2}
POOR = {"red": [True] * 3 + [False] * 7, "blue": [False] * 10}


def entry(comparison: Comparison, name: str) -> Entry:
    return next(one for one in comparison.entries if one.name == name)


def only_pair(comparison: Comparison) -> Pair:
    (pair,) = comparison.pairs
    return pair


def test_what_is_said_of_the_data_is_said_of_the_methods_trained_on_them(tmp_path: Path):
    scripted = "20 of 20 episodes are demonstrations of a scripted expert, not of a human"
    for name, outcomes, width in (("good", GOOD, 1), ("poor", POOR, 2)):
        run = write_run(tmp_path / "runs" / name, outcomes, width=width)
        write_run(run, POOR, width=width, policy="random")
        provenance = json.loads((run / "provenance.json").read_text())
        said = [scripted] if name == "good" else [scripted, "odd"]
        (run / "provenance.json").write_text(json.dumps({**provenance, "data_remarks": said}))
    expected = (f"Data of all methods: {scripted}.", "Data of poor: odd.")
    assert compare([tmp_path / "runs"]).remarks == expected
    for form in ("terminal", "markdown", "html"):
        arguments = (
            [] if form == "terminal" else ["--format", form, *(["--output", "compare.html"] if form == "html" else [])]
        )
        found = command_here(tmp_path, "compare", *arguments, COLUMNS="200")
        assert found.returncode == 0, found.stderr
        text = (tmp_path / "compare.html").read_text() if form == "html" else found.stdout
        assert all(sentence in " ".join(text.split()) for sentence in expected), form


def test_two_methods_on_equal_states_are_paired(tmp_path: Path):
    write_run(tmp_path / "poor", POOR, width=2)
    write_run(tmp_path / "good", GOOD)
    found = compare([tmp_path])
    assert [one.name for one in found.entries] == ["good", "poor"]
    assert [one.letters for one in found.entries] == ["a", "b"]
    good, pair = entry(found, "good"), only_pair(found)
    assert (good.mean.value, good.mean.episodes, good.mean.errors) == (pytest.approx(0.85), 20, 0)
    assert good.mean.interval.low < 0.85 < good.mean.interval.high
    assert (pair.first, pair.second, pair.pairs, pair.won, pair.lost) == ("good", "poor", 20, 14, 0)
    assert pair.test == "McNemar, exact" and pair.p == pytest.approx(2 * 0.5**14)
    assert (good.cost.seconds_per_chunk, good.cost.parameters, good.cost.trained_steps) == (0.25, 1234, 100)
    assert good.cost.processor_seconds == 90.0
    assert found.detectable is not None and 0.2 < found.detectable < 0.9
    assert found.warnings == ()


def test_the_order_of_folders_changes_nothing(tmp_path: Path):
    folders = [
        write_run(tmp_path / name, outcomes, width=i) for i, (name, outcomes) in enumerate([("a", GOOD), ("b", POOR)])
    ]
    assert compare(folders) == compare(folders[::-1])


def test_other_states_are_compared_without_pairs_and_with_a_warning(tmp_path: Path):
    write_run(tmp_path / "good", GOOD)
    write_run(tmp_path / "poor", POOR, width=2, states="other ")
    found = compare([tmp_path])
    assert only_pair(found).test == "Boschloo, exact" and only_pair(found).pairs == 0
    assert any("without pairing" in warning and "good - poor" in warning for warning in found.warnings)


def test_unequal_numbers_of_episodes_are_told_and_tests_use_the_common_ones(tmp_path: Path):
    write_run(tmp_path / "good", GOOD)
    write_run(tmp_path / "half", {task: outcomes[:5] for task, outcomes in GOOD.items()}, width=2)
    found = compare([tmp_path])
    assert only_pair(found).pairs == 10
    assert entry(found, "half").mean.episodes == 10
    assert any("Numbers of episodes differ" in warning for warning in found.warnings)


def test_runs_of_another_protocol_are_set_apart_with_what_differs(tmp_path: Path):
    write_run(tmp_path / "first", GOOD)
    write_run(tmp_path / "second", POOR, width=2)
    write_run(tmp_path / "large", GOOD, width=3, protocol={"simulator": "toy 1", "camera": {"height": 32}})
    found = compare([tmp_path])
    assert {one.name for one in found.entries} == {"first", "second"}
    (apart,) = found.set_apart
    assert (apart.name, apart.reasons) == ("large", ("camera.height: 32 instead of 16",))
    assert apart.mean is not None and apart.mean.value == pytest.approx(0.85)
    assert [one.name for one in compare([tmp_path], like="large").entries] == ["large"]


def test_seeds_are_a_second_level(tmp_path: Path):
    for seed, outcomes in enumerate((GOOD, POOR, GOOD)):
        write_run(tmp_path / f"method-seed-{seed}", outcomes, seed=seed)
    found = compare([tmp_path])
    (one,) = found.entries
    assert (one.name, one.seeds, one.mean.episodes) == ("method", (0, 1, 2), 60)
    assert one.seed_interval is not None
    assert one.seed_interval.high - one.seed_interval.low > 1.5 * (one.mean.interval.high - one.mean.interval.low)


def test_rows_of_one_ablation_go_by_the_rows_names(tmp_path: Path):
    write_run(tmp_path / "table_3-two-stage", GOOD)
    write_run(tmp_path / "table_3-joint", POOR, width=2)
    write_run(tmp_path / "table_3-joint", POOR, width=2, policy="random")
    assert [one.name for one in compare([tmp_path]).entries] == ["two-stage", "joint", "random"]
    write_run(tmp_path / "quickstart", POOR, width=3)
    assert "table_3-joint" in {one.name for one in compare([tmp_path]).entries}


def test_chance_stands_last_and_once(tmp_path: Path):
    write_run(tmp_path / "good", GOOD)
    write_run(tmp_path / "good", POOR, policy="random")
    write_run(tmp_path / "other", GOOD, width=2)
    write_run(tmp_path / "other", POOR, width=2, policy="random")
    assert [one.name for one in compare([tmp_path]).entries] == ["good", "other", "random"]
    assert [one.name for one in compare([tmp_path], policies=("trained",)).entries] == ["good", "other"]


def test_a_damaged_line_is_named_and_the_rest_counts(tmp_path: Path):
    log = write_run(tmp_path / "good", GOOD) / "episodes.jsonl"
    lines = log.read_text().splitlines()
    lines[4] = lines[4][:30]
    log.write_text("\n".join(lines) + "\n")
    found = compare([tmp_path])
    assert entry(found, "good").mean.episodes == 19
    assert any(f"{log}:5" in warning for warning in found.warnings)


def test_episodes_with_errors_are_counted_apart(tmp_path: Path):
    log = write_run(tmp_path / "good", GOOD) / "episodes.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    records[0] |= {"error": "the simulator broke", "success": False}
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = compare([tmp_path])
    assert (entry(found, "good").mean.episodes, entry(found, "good").mean.errors) == (19, 1)
    assert any("simulator errors" in warning for warning in found.warnings)


def test_published_numbers_answer_before_anything_was_run():
    found = compare([], "robocasa")
    assert found.entries == () and {number.group for number in found.published} >= {"mean"}


def test_numbers_of_other_robots_and_data_are_left_to_the_page():
    found = compare([], "calvin")
    titles = [section.title for section in sections(found)]
    assert titles and all(title.endswith("Table 1") for title in titles)
    assert left_out_tables(found) == ["8 more tables of ablations", "8 more tables of other robots, data and machines"]
    tables = published_tables(of_elsewhere(found.published))
    data = next(table for table in tables if table.source.endswith("Table 8"))
    assert ("Total", ("375192", "1")) in data.rows
    assert not any("episodes is given" in remark for table in tables for remark in table.remarks)


def test_an_unknown_benchmark_and_no_runs_say_what_to_do(tmp_path: Path):
    with pytest.raises(VpolicyError, match="robocasa"):
        compare([], "robocaza")
    with pytest.raises(VpolicyError) as caught:
        compare([tmp_path])
    assert "vpolicy run RECIPE" in caught.value.hint
    with pytest.raises(VpolicyError, match="no folder"):
        compare([tmp_path / "nowhere"])


def vpolicy(folder: Path, *arguments: str, code: int = 0, process: bool = False) -> str:
    variables = {"COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    if process:
        command = [sys.executable, "-m", "videopolicy", "compare", *arguments]
        environment = os.environ | variables
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    else:
        done = command_here(folder, "compare", *arguments, **variables)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex: apt-get install texlive-latex-recommended")
def test_tables_can_be_typeset_and_fit_the_page(tmp_path: Path):
    write_run(tmp_path / "runs" / "good", GOOD)
    write_run(tmp_path / "runs" / ("a_name_that_is_" + "very_" * 12 + "long"), POOR, width=2)
    vpolicy(tmp_path, "--format", "latex", "-o", "table.tex")
    packages = (tmp_path / "table.tex").read_text().splitlines()[0].removeprefix("% needs ")
    page = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{table}}\end{{document}}"
    (tmp_path / "page.tex").write_text(page)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "page.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0 and "\n!" not in done.stdout, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_the_command_writes_every_format(tmp_path: Path):
    write_run(tmp_path / "runs" / "good", GOOD)
    write_run(tmp_path / "runs" / "poor_one", POOR, width=2)
    table = vpolicy(tmp_path, "--benchmark", "toy", process=True)
    assert all(len(line) <= 80 for line in table.splitlines())
    assert "good" in table and "85" in table and "McNemar" in table and "percentage points" in table
    vpolicy(tmp_path, "--format", "markdown", "-o", "out/table.md")
    assert re.search(r"^\| good +\| +85 \|", (tmp_path / "out" / "table.md").read_text(), re.MULTILINE)
    latex = vpolicy(tmp_path, "--format", "latex")
    assert r"\toprule" in latex and r"poor\_one" in latex and latex.count("{") == latex.count("}")
    rows = list(csv.DictReader(io.StringIO(vpolicy(tmp_path, "--format", "csv"))))
    assert {row["group"] for row in rows} == {"red", "blue", "toy", "mean"}  # toy: a tier
    means = {
        row["method"]: float(row["value"]) for row in rows if row["group"] == "mean" and row["source"] == "measured"
    }
    assert means == {"good": pytest.approx(0.85), "poor_one": pytest.approx(0.15)}
    whole = json.loads(vpolicy(tmp_path, "--format", "json"))
    assert [one["name"] for one in whole["entries"]] == ["good", "poor_one"]
    vpolicy(tmp_path, "--format", "html", "--no-films", "-o", "page.html")
    assert "poor_one" in (tmp_path / "page.html").read_text()


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path):
    told = vpolicy(tmp_path, code=2, process=True)
    assert "no runs to compare" in told and "vpolicy run RECIPE" in told
    assert "Did you mean 'robocasa'" in vpolicy(tmp_path, "--benchmark", "robocas", code=2)
