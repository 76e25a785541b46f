"""``vpolicy ablate`` on rows of toy size: the plan, the runs, the table, and what is not done twice."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest
from children import vpolicy_apart
from command import vpolicy
from toy_recipes import video

RECIPE = video(
    (
        "name: video, target: policy.extractor.backbone, steps: 6, batch_size: 4",
        "name: policy, steps: 6, batch_size: 4",
    ),
    "episodes: 2, execute: 3, workers: 1, batch_size: 2",
)

ROWS = """\
base: small.yaml
source: "Nobody (2026), Table 1"
rows:
- name: Whole
  published: {value: 0.5, episodes: 20}
- name: Three sampling steps
  overrides: [policy.decoder.sampling_levels.steps=3]
  published: {value: 0.5}
- name: More training
  overrides: [train.policy.steps=8]
"""


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "small.yaml").write_text(RECIPE, encoding="utf-8")
        (path / "rows.yaml").write_text(ROWS, encoding="utf-8")
        self.variables = {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "VPOLICY_HOME": str(path / "home")}

    def ablate(self, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self._ended(vpolicy(self.path, "ablate", "rows.yaml", *options, **self.variables), code)

    def ablate_in_a_process(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self._ended(vpolicy_apart(self.path, "ablate", "rows.yaml", *options, **self.variables), 0)

    def _ended(self, done: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
        assert done.returncode == code, done.stdout + done.stderr
        return done

    @property
    def stages(self) -> set[str]:
        return {marker.parent.name for marker in (self.path / "home" / "stages").glob("*/done.json")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("ablate"))


def test_the_plan_counts_shared_stages_once_and_does_nothing(folder: Folder):
    told = " ".join(folder.ablate("--dry-run").stdout.split())
    assert "6 stages of 3 rows are 3 different ones; 3 are not trained yet" in told
    assert "all 3" in told and "Whole, Three sampling steps" in told
    assert "Demonstrations have to be collected" in told
    assert not (folder.path / "runs").exists() and not folder.stages


@pytest.mark.slow
def test_rows_run_once_and_stand_beside_the_paper(folder: Folder):
    table = folder.ablate_in_a_process("--format", "csv", "-o", "table.csv")
    assert "Three sampling steps" in table.stdout
    assert len(folder.stages) == 3  # one video model, and two policies for three rows
    rows = list(csv.DictReader((folder.path / "table.csv").open()))
    assert [row["row"] for row in rows] == ["Whole", "Three sampling steps", "More training"]
    for row in rows:
        assert (row["n"], row["errors"]) == ("4", "0")
        inside = float(row["low"]) <= 0.5 <= float(row["high"])
        expected = "no number" if row["row"] == "More training" else "inside" if inside else "outside"
        assert row["verdict"] == expected

    before = {path: path.stat().st_mtime_ns for path in (folder.path / "runs").rglob("episodes.jsonl")}
    again = folder.ablate("--quiet").stdout
    assert "4" in again and "Nobody (2026), Table 1" in again
    assert all(len(line) <= 80 for line in again.splitlines())
    assert before == {path: path.stat().st_mtime_ns for path in before}

    planned = " ".join(folder.ablate("--dry-run").stdout.split())
    assert "0 are not trained yet" in planned and "done" in planned
    written = json.loads(folder.ablate("--no-run", "--format", "json").stdout)
    assert [row["ours"] is not None for row in written["rows"]] == [True, True, True]


@pytest.mark.slow
def test_another_base_is_told_and_not_judged(folder: Folder):
    (folder.path / "other.yaml").write_text(RECIPE.replace("steps: 6", "steps: 5"), encoding="utf-8")
    told = folder.ablate("--base", "other.yaml", "--no-run").stdout
    assert told.count("not run") >= 3
    rows = ROWS.split("- name: Three")[0].replace("rows:", "metric: length of chains\nrows:")
    rows += '- name: Another eye\n  overrides: ["policy.extractor.taps=[up7]"]\n'
    (folder.path / "rows.yaml").write_text(rows, encoding="utf-8")
    table = folder.ablate("--base", "other.yaml", "--format", "markdown", "--quiet").stdout
    assert "other base" in table and "are not to be compared" in table
    assert "Ours: success, since this base does not measure length of chains." in table and " % |" in table
    assert "Left out: Another eye, which does not fit this base: other.yaml:" in table and "no tap up7" in table


def test_a_row_that_fails_does_not_keep_the_others_from_running(tmp_path: Path):
    folder = Folder(tmp_path)
    (tmp_path / "rows.yaml").write_text(
        ROWS.replace("train.policy.steps=8", "train.video.steps=0, train.video.init_from=nowhere"), encoding="utf-8"
    )
    failed = folder.ablate("eval.episodes=1", code=2)
    assert "1 of 3 rows failed; 'More training'" in failed.stderr and "nowhere" in failed.stderr
    assert failed.stdout.count("0-") + failed.stdout.count("-100") >= 2
