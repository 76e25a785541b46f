"""Plan and outcome of an ablation in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from videopolicy.ablate.grid import cells, notes
from videopolicy.ablate.outcome import Outcome
from videopolicy.ablate.planning import Plan, StagePlan
from videopolicy.compare.grid import count_text
from videopolicy.console.progress import duration

_MANY = 4


def outcome_table(outcome: Outcome) -> RenderableType:
    """Paper beside ours, for 80 columns."""
    header, rows = cells(outcome)
    table = Table(box=box.SIMPLE_HEAD, title=Text(outcome.source), title_justify="left", pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return Group(table, *(Text(note) for note in notes(outcome)))


def plan_tables(plan: Plan) -> list[RenderableType]:
    """What would be trained once, then what would be evaluated, then the sums."""
    stages = Table(box=box.SIMPLE_HEAD, title="Stages, each trained once", title_justify="left", pad_edge=False)
    for name in ("stage", "steps", "parameters", "time", "disk"):
        stages.add_column(name, justify="left" if name == "stage" else "right")
    stages.add_column("rows that need it", overflow="fold")
    for one in plan.stages:
        stages.add_row(
            one.stage,
            str(one.steps),
            count_text(one.parameters),
            _time(one),
            "-" if one.finished else _size(one.bytes),
            _needed(one, len(plan.rows)),
        )
    rows = Table(box=box.SIMPLE_HEAD, title="Evaluation", title_justify="left", pad_edge=False)
    for name in ("row", "episodes", "missing", "time"):
        rows.add_column(name, justify="left" if name == "row" else "right", overflow="fold")
    for row in plan.rows:
        rows.add_row(row.name, str(row.episodes), str(row.missing), "?" if row.seconds is None else _about(row.seconds))
    return [stages, rows, *(Text(line) for line in _sums(plan))]


def _sums(plan: Plan) -> list[str]:
    waiting = [one for one in plan.stages if not one.finished]
    asked = sum(len(row.keys) for row in plan.rows)
    known = [one.seconds for one in waiting if one.seconds is not None]
    known += [row.seconds for row in plan.rows if row.seconds is not None and row.missing]
    unknown = sum(one.seconds is None for one in waiting) + sum(
        row.seconds is None and row.missing > 0 for row in plan.rows
    )
    lines = [
        f"{asked} stages of {len(plan.rows)} rows are {len(plan.stages)} different ones; {len(waiting)} are not "
        f"trained yet and take {_size(sum(one.bytes for one in waiting))} of disk."
    ]
    if known or unknown:
        time = f"About {duration(sum(known))}" if known else "Time unknown"
        rest = f", and {unknown} parts that nothing of the same size has been measured for here" if unknown else ""
        lines.append(f"{time} one after the other{rest}. Estimates are from finished stages and runs on this machine.")
    if plan.uncollected:
        lines.append("Demonstrations have to be collected or downloaded first, which is not counted here.")
    return lines


def _needed(one: StagePlan, rows: int) -> str:
    if len(one.rows) == rows and rows > 1:
        return f"all {rows}"
    return ", ".join(one.rows) if len(one.rows) <= _MANY else f"{len(one.rows)} of {rows}: {', '.join(one.rows)}"


def _time(one: StagePlan) -> str:
    if one.finished:
        return "done"
    return "?" if one.seconds is None else _about(one.seconds)


def _about(seconds: float) -> str:
    return duration(seconds) if seconds else "-"


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 2**10:.3g} KiB"
