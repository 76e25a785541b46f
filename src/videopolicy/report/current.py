"""What ``report.html`` shows, so that a finished run that is given again draws nothing."""

from __future__ import annotations

from pathlib import Path

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.report.made import MADE_FROM
from videopolicy.storage.files import file_digest
from videopolicy.storage.identity import core_code, digest
from videopolicy.storage.provenance import Provenance, ReportFacts
from videopolicy.storage.run_folder import RunFolder

REPORT = (
    "console.progress",
    "report.charts",
    "report.contents",
    "report.made",
    "report.media",
    "report.page",
    "outcomes.intervals",
    "outcomes.published",
    "outcomes.records",
)
"""Modules of the core that decide what a report shows."""
_TEMPLATES = ("page.html", "page.css")
_BESIDE_THE_POINT = {"command", "finished", "machine", "peak_memory_bytes", "report", "seconds"}
"""What differs between two commands of which the second finds nothing to do."""


def report_facts(folder: RunFolder, provenance: Provenance, benchmark: BenchmarkComponent) -> ReportFacts:
    """What a report shows now: the files of its run, read and drawn by this code.

    Args:
        folder: Of the run.
        provenance: Of the run.
        benchmark: Of the run.
    """
    files = [folder.recipe_file, folder.identity_file, folder.episodes_file, folder.curves_file, folder.quality_file]
    files += [folder.videos / MADE_FROM, *(Path(__file__).with_name(name) for name in _TEMPLATES)]
    key = digest(
        {
            "files": [_content(file) for file in files],
            "provenance": provenance.model_dump(mode="json", exclude=_BESIDE_THE_POINT),
            "tasks": [task.model_dump(mode="json") for task in benchmark.tasks()],
            "published": [number.model_dump(mode="json") for number in benchmark.published()],
            "code": core_code(REPORT),
        }
    )
    return ReportFacts(key=key, sha256=_content(folder.report_file))


def _content(file: Path) -> str:
    """A digest of a file; empty where there is none."""
    return file_digest(file) if file.is_file() else ""
