"""The page of a comparison with everything that belongs into it."""

from __future__ import annotations

from pathlib import Path

from videopolicy.compare.model import Comparison
from videopolicy.compare.page.films import films_folder, make_films
from videopolicy.compare.page.page import write_page
from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.console.progress import Reporter
from videopolicy.errors import VpolicyError


def write_filmed_page(
    comparison: Comparison,
    path: Path,
    reporter: Reporter,
    films: bool = True,
    trust: bool = False,
    benchmark: BenchmarkComponent | None = None,
) -> Path:
    """Film episodes of all methods side by side where a simulator is there, and write the page.

    Args:
        comparison: What was computed.
        path: The file to write.
        reporter: Shows progress, and why there are no films.
        films: Whether to make those that are missing.
        trust: Whether the Python files that the runs' recipes name may be run for that.
        benchmark: Filmed through its ``closeup``; by default the runs' recipes are asked for it.

    Returns:
        The file.

    Raises:
        StorageError: The file cannot be written.
    """
    if films and comparison.entries:
        try:
            make_films(comparison, films_folder(path), reporter, benchmark=benchmark, trust=trust)
        except VpolicyError as error:  # the numbers do not need a simulator
            reporter.line(f"No films: {error.message} {error.hint}")
    return write_page(comparison, path)
