"""What the authors of benchmarks share: choosing tasks by name, and published numbers from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import AfterValidator

from videopolicy.contracts.benchmark import PublishedNumber
from videopolicy.errors import did_you_mean, listing

ALL = "all"


def chosen_tasks(wanted: Sequence[str], groups: Mapping[str, Sequence[str]], benchmark: str) -> tuple[str, ...]:
    """The tasks meant by names of tasks, names of groups, or ``all``.

    Args:
        wanted: Names as a recipe has them.
        groups: Tasks by group; tasks that belong to none stand under an empty name.
        benchmark: How to call it in messages.

    Raises:
        ValueError: There is no such thing, with the nearest name; or a task is named more than once.
    """
    known = [task for tasks in groups.values() for task in tasks]
    names = [ALL, *filter(None, groups)]
    chosen: list[str] = []
    for name in wanted:
        if name not in (*names, *known):
            raise ValueError(
                f"{benchmark} has no task{' or group' if len(names) > 1 else ''} '{name}'."
                f"{did_you_mean(name, [*names, *known])} Known: {', '.join(names)}; {listing(known, limit=50)}."
            )
        chosen += known if name == ALL else groups.get(name, [name]) if name else [name]
    return different(tuple(chosen), "task")


def different(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The same names.

    Raises:
        ValueError: One is there more than once.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"a {what} is named more than once: {', '.join(twice)}")
    return names


def checked(check: Callable[[tuple[str, ...]], object]) -> AfterValidator:
    """Annotates a field of names that stay as they are once ``check`` has raised no ValueError."""

    def validate(names: tuple[str, ...]) -> tuple[str, ...]:
        check(names)
        return names

    return AfterValidator(validate)


def different_cameras(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same names of cameras; see `different`."""
    return different(names, "camera")


def published_numbers(path: Path) -> tuple[PublishedNumber, ...]:
    """Numbers of papers from a YAML file.

    ``tables`` is a list; each has ``source``, ``metric``, ``methods``, and ``values``, by group as many numbers as
    there are methods, null where the paper has none; ``episodes``, ``note`` and ``kind`` may be left out.
    """
    import yaml

    tables = yaml.safe_load(path.read_text(encoding="utf-8"))["tables"]
    return tuple(
        PublishedNumber(
            method=method,
            group=group,
            value=value,
            **{name: table[name] for name in ("metric", "source", "episodes", "note", "kind") if name in table},
        )
        for table in tables
        for group, values in table["values"].items()
        for method, value in zip(table["methods"], values, strict=True)
        if value is not None
    )
