"""Names that are code in a table's language: they stay names in every format, and numbers stay numbers."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
from pathlib import Path

import pytest

from videopolicy.compare.comparison import compare
from videopolicy.compare.formats import csv_table, deliver, latex_table, markdown_table, markdown_text
from videopolicy.compare.page.page import write_page
from videopolicy.report.media import data_uri

_PARTS = importlib.util.spec_from_file_location("run_folders", Path(__file__).with_name("run_folders.py"))
assert _PARTS and _PARTS.loader
_MODULE = importlib.util.module_from_spec(_PARTS)
_PARTS.loader.exec_module(_MODULE)
write_run = _MODULE.write_run


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", " ="])
def test_a_formula_is_a_text_in_a_spreadsheet(begin: str):
    text = csv_table([[f"{begin}cmd|'/C calc'!A1", Path(f"{begin}run"), -0.5, "-0.5", "+2", "a=b", 3]])
    row = next(csv.reader(io.StringIO(text, newline="")))
    begun = "\ufffd" if begin == "\r" else begin
    assert row == [f"'{begun}cmd|'/C calc'!A1", f"'{begun}run", "-0.5", "-0.5", "+2", "a=b", "3"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<img src=x onerror=alert(1)>", r"\<img src=x onerror=alert(1)>"),
        ("[here](javascript:alert(1))", r"[here]\(javascript:alert(1))"),
        ("![p](http://a/b)", r"!\[p]\(http://a/b)"),
        ("[x][y]", r"[x]\[y]"),
        ("a|b `c` **d** _e_ ~~f~~", r"a\|b \`c\` \*\*d\*\* \_e\_ \~\~f\~\~"),
        ("two\n\n# lines", "two  # lines"),
        ("&lt;b&gt; R&D", r"\&lt;b\&gt; R&D"),
        ("uva_one-step 86.7 [82-90] <0.001 -1.5", "uva_one-step 86.7 [82-90] <0.001 -1.5"),
    ],
)
def test_markdown_shows_a_name_as_it_is(name: str, shown: str):
    assert markdown_text(name) == shown
    table = markdown_table(["method", "n"], [[name, "1"]])
    assert shown in table and len(table.splitlines()) == 3


def test_latex_runs_nothing_of_a_name():
    name = "\\input{/etc/passwd} 100% $x$ #1 a_b ^^5c {~}\n\\end{table}"
    table = latex_table(["method", name], [[name, "1"]], caption=name, notes=[name])
    assert "\\input" not in table and "100\\%" in table and "a\\_b" in table and "^^" not in table
    assert table.count("\\end{table}") == 1


def test_a_file_is_utf8_and_without_codes_and_replaces_a_link(tmp_path: Path):
    (tmp_path / "other").write_text("kept", encoding="utf-8")
    (tmp_path / "table.md").symlink_to(tmp_path / "other")
    deliver("\u6253 \x1b[2J \udcff\n", tmp_path / "table.md")
    assert (tmp_path / "table.md").read_bytes().decode() == "\u6253 \ufffd[2J \ufffd\n"
    assert (tmp_path / "other").read_text(encoding="utf-8") == "kept"


def test_a_pipe_is_written_and_stays_a_pipe(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    deliver("table\n", pipe)
    assert os.read(reader, 100) == b"table\n" and pipe.is_fifo()
    os.close(reader)


def test_the_page_of_a_comparison_takes_nothing_from_outside_the_runs(tmp_path: Path):
    secret = tmp_path / "outside" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    run = write_run(tmp_path / "runs" / "good", {"red": [True], "blue": [False]})
    videos = run / "videos"
    videos.mkdir()
    facts = {"task": "red", "episode": 0, "success": True, "now": 3, "shown": [0, 1], "height": 8, "width": 8}
    facts |= {"psnr": 20.0, "psnr_still": 18.0}
    (videos / "predictions.json").write_text(json.dumps({"red": facts}), encoding="utf-8")
    (videos / "red-prediction.png").symlink_to(secret)
    (videos / "red-prediction.mp4").write_bytes(b"film")
    films = {"method": "good", "initial_state": "red-0", "steps": 10, "control_rate": 5.0} | facts
    (tmp_path / "pages" / "page-films").mkdir(parents=True)
    (tmp_path / "pages" / "page-films" / "films.json").write_text(json.dumps({str(secret): films}), encoding="utf-8")
    page = write_page(compare([tmp_path / "runs"]), tmp_path / "pages" / "page.html").read_text(encoding="utf-8")
    assert page.count("is left out, since it is no regular file in") == 2
    assert data_uri(secret.read_bytes(), "")[len("data:;base64,") :] not in page
