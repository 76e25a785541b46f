"""A comparison as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from videopolicy.compare.grid import By, sections
from videopolicy.compare.model import Comparison, Entry
from videopolicy.console.text import clean, say
from videopolicy.outcomes.records import Rate
from videopolicy.storage.files import write_text

_ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


_LINES_ABOVE_ROWS = 4
"""Of tabulate's ``latex_booktabs``: begin, rule, header, rule."""


_FORMULA = re.compile(r"[\t\r]|\s*[=+\-@]")
"""What a spreadsheet takes for the beginning of a formula; see OWASP, "CSV Injection"."""

_MARKDOWN = re.compile(
    r"[\\`|*~]|<(?=[A-Za-z/!?])"  # code, cells, emphasis, HTML
    r"|(?<=\])[(\[:]|(?<=!)\["  # links and pictures
    r"|&(?=#|\w+;)"  # characters by number or name
    r"|(?<![^\W_])_|_(?![^\W_])"  # an underscore inside a word is itself
)


def deliver(text: str, output: Path | None) -> None:
    """Write a text to a file, or to the terminal where there is none.

    A file is replaced as a whole, and so is a link; only devices and pipes are written as they are.

    Raises:
        StorageError: The file cannot be written.
    """
    if output is None:
        say(text, end="")
    elif output.is_fifo() or output.is_char_device() or output.is_relative_to("/dev"):
        output.write_text(clean(text), encoding="utf-8")
    else:
        write_text(output, clean(text))


def markdown(comparison: Comparison, by: By) -> str:
    """Tables with their notes, warnings last."""
    lines: list[str] = []
    for section in sections(comparison, by):
        lines += [f"### {markdown_text(section.title)}", "", markdown_table(section.header, section.rows), ""]
        lines += [*(f"- {markdown_text(note)}" for note in section.notes), ""] if section.notes else []
    lines += [f"> {markdown_text(warning)}" for warning in comparison.warnings]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; the first column is aligned left."""
    escaped = [[markdown_text(cell) for cell in row] for row in (header, *rows)]
    return _tabulated("pipe", *escaped)


def markdown_text(text: str) -> str:
    """A text on one line of Markdown that shows as it is: no HTML, link, code or cell of a table begins in it."""
    return _MARKDOWN.sub(r"\\\g<0>", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def latex(comparison: Comparison, by: By) -> str:
    """Tables for the packages booktabs and graphicx."""
    found = [latex_table(s.header, s.rows, s.title, s.notes) for s in sections(comparison, by)]
    comments = "".join(f"% {_one_line(warning)}\n" for warning in comparison.warnings)
    return "% needs \\usepackage{booktabs,graphicx}\n" + comments + "\n".join(found)


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str, notes: Sequence[str] = ()) -> str:
    """A floating table with rules of booktabs, shrunk where it is wider than the text; the caption has the notes."""
    cells = ([_one_line(cell) for cell in row] for row in (header, *rows))
    tabular = _tabulated("latex_booktabs", *cells).replace("\N{NO-BREAK SPACE}", "~").splitlines()
    above = [number for number, row in enumerate(rows) if row[0] == "mean"]
    for number in reversed(above):
        tabular.insert(_LINES_ABOVE_ROWS + number, r"\midrule")
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(' '.join([caption.rstrip('.') + '.', *notes]))}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        *tabular[:-1],
        tabular[-1] + "}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tabulated(form: str, header: Sequence[str], *rows: Sequence[str]) -> str:
    sides = ["left", *("right" for _ in header[1:])]
    return tabulate(rows, header, form, disable_numparse=True, colalign=sides)


def _tex(text: str) -> str:
    return "".join(_ESCAPES.get(c, c) for c in _one_line(text)).replace("\N{NO-BREAK SPACE}", "~")


def csv_text(comparison: Comparison) -> str:
    """One line for every rate of every method, measured or published."""
    rows: list[Sequence[Any]] = [
        ["method", "policy", "metric", "group", "value", "low", "high", "successes", "episodes", "errors", "source"]
    ]
    for entry in comparison.entries:
        for rate in (*entry.tasks, *entry.tiers, entry.mean):
            rows.append(_line(entry, rate))
        for name, (value, interval) in entry.scores.items():
            numbers = [value, *interval, "", entry.mean.episodes, entry.mean.errors]
            rows.append([entry.name, entry.policy, name, "mean", *numbers, "measured"])
    for number in comparison.published:
        numbers = [number.value, "", "", "", number.episodes or "", ""]
        rows.append([number.method, "", number.metric, number.group, *numbers, number.source])
    return csv_table(rows)


def csv_table(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV. Numbers stay numbers; a text that a spreadsheet would compute gets an apostrophe in front."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([_inert(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def _inert(cell: Any) -> Any:
    if not isinstance(cell, str | Path):
        return cell
    text = str(cell)
    return f"'{clean(text)}" if _FORMULA.match(text) and not _is_number(text) else clean(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _line(entry: Entry, rate: Rate) -> list[Any]:
    value = "" if rate.value is None else rate.value
    numbers = [value, *rate.interval, rate.successes, rate.episodes, rate.errors]
    return [entry.name, entry.policy, "success", rate.name, *numbers, "measured"]


def json_text(comparison: Comparison) -> str:
    """Everything but the episodes themselves, which lie in the run folders."""
    found = {field: getattr(comparison, field) for field in comparison.__dataclass_fields__}
    found["entries"] = [_entry(entry) for entry in comparison.entries]
    for name in ("pairs", "set_apart"):
        found[name] = [asdict(one) for one in found[name]]
    found["published"] = [number.model_dump() for number in comparison.published]
    return json.dumps(found, indent=2, default=str) + "\n"


def _entry(entry: Entry) -> dict[str, Any]:
    bare = {name: value for name, value in _fields(entry) if name != "records"}
    bare["cost"] = {**asdict(entry.cost), "device_hours": entry.cost.device_hours}
    bare["tasks"], bare["tiers"] = ([asdict(rate) for rate in rates] for rates in (entry.tasks, entry.tiers))
    bare["mean"] = asdict(entry.mean)
    bare["quality"] = asdict(entry.quality) if entry.quality else None
    return bare


def _fields(entry: Entry) -> Iterator[tuple[str, Any]]:
    yield from ((name, getattr(entry, name)) for name in entry.__dataclass_fields__)
