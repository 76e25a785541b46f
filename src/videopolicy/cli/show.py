"""``vpolicy show``: a run's results in the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from videopolicy.outcomes.published import PublishedTable
    from videopolicy.outcomes.records import Rate
    from videopolicy.report.contents import RunContents

_LONG_NAME = 24
"""Names of rows up to here are never cut, so that published columns stay narrow instead."""


def show(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/quickstart.")],
    trust: Annotated[bool, typer.Option("--trust", help="Run the Python files that its recipe names.")] = False,
    rerun: Annotated[
        Path | None,
        typer.Option(help="File for Rerun's viewer: an episode of every outcome, replayed.", show_default=False),
    ] = None,
) -> None:
    """Show success by task, training, published numbers, and what is missing; replay episodes for Rerun's viewer."""
    from rich.text import Text

    from videopolicy.console.terminal import Terminal
    from videopolicy.report.contents import read_run

    contents = read_run(run, trust=trust)
    if rerun is not None:
        _write_rollouts(contents, rerun)
        return
    console = Terminal()
    for part in renderables(contents):
        console.print(part, soft_wrap=isinstance(part, Text))


def _write_rollouts(run: RunContents, path: Path) -> None:
    from videopolicy.console.progress import Reporter
    from videopolicy.console.text import say
    from videopolicy.errors import StorageError
    from videopolicy.report.rollouts import write_rollouts

    if run.benchmark is None:
        raise StorageError(
            "The run's benchmark cannot be made, in which its episodes would be replayed.",
            "Install its plugin, or add --trust where its recipe names a Python file that you trust.",
        )
    count = write_rollouts(run.folder, run.benchmark, path, Reporter())
    say(f"{path}: {count} episodes; open it with `rerun {path}`")


def renderables(run: RunContents) -> list[RenderableType]:
    """The parts of the output, from top to bottom; they fit 80 columns."""
    from rich.text import Text

    from videopolicy.outcomes.published import of_elsewhere, of_this_benchmark, published_tables

    found: list[RenderableType] = [_headline(run)]
    if run.summaries:
        found += ["", _success(run)]
        found.append(Text("Success in %, [95 % interval], episodes.", "dim"))
    if run.stage_names:
        found += ["", _stages(run)]
        stages = [stage for stage in map(run.stage, run.stage_names) if stage is not None]
        found += [Text(f"{stage.name}: {remark}", "dim") for stage in stages for remark in stage.remarks]
    remarks = run.provenance.data_remarks if run.provenance else ()
    if remarks and not run.stage_names:
        found.append("")
    found += [Text(f"data: {remark}", "dim") for remark in remarks]
    published = run.benchmark.published() if run.benchmark else ()
    for table in published_tables(of_this_benchmark(published)):
        found += ["", Text("Published, not measured here:"), _published(table)]
        found += [Text(text, "dim") for text in (f"{table.source}.", *table.remarks)]
    if others := len(published_tables(of_elsewhere(published))):
        tables = f"{others} more table{'' if others == 1 else 's'} of other robots, data and machines"
        found += ["", Text(f"Papers have {tables}: vpolicy report.", "dim")]
    errors = Counter((record.policy, record.task) for record in run.records if record.error is not None)
    found += [""] if errors or run.missing() or run.problems else []
    for (policy, task), count in errors.items():
        found.append(f"Simulator errors, in no number: {policy} {task} {count}")
    found += [Text(f"Missing: {text}", "yellow") for text in run.missing()]
    found += [Text(problem, "red") for problem in run.problems]
    return found


def _headline(run: RunContents) -> Text:
    from rich.text import Text

    from videopolicy.console.progress import duration

    facts = [run.name]
    if run.provenance is not None:
        if run.provenance.seconds is not None:
            facts.append(duration(run.provenance.seconds))
        if run.provenance.machine.processor:
            facts.append(run.provenance.machine.processor)
    return Text(", ".join(facts), "bold")


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _success(run: RunContents) -> Table:
    policies = list(run.summaries)
    table = _table("task", *policies, right=tuple(policies))
    summaries = run.summaries.values()
    for index, rate in enumerate(next(iter(summaries)).tasks):
        table.add_row(rate.name, *(_rate(summary.tasks[index]) for summary in summaries))
    table.add_section()
    tiers = next(iter(summaries)).tiers
    for index, tier in enumerate(tiers if len(tiers) > 1 else ()):
        table.add_row(f"mean of {tier.name}", *(_rate(summary.tiers[index]) for summary in summaries))
    table.add_row("mean of all tasks", *(_rate(summary.mean) for summary in summaries), style="bold")
    measured = [summary.mean.metrics for summary in summaries]
    for name in dict.fromkeys(name for metrics in measured for name in metrics):
        table.add_row(name, *(f"{metrics[name]:.3g}" if name in metrics else "" for metrics in measured))
    return table


def _rate(rate: Rate) -> str:
    from videopolicy.outcomes.intervals import percent, span

    if rate.value is None:
        return "no episodes"
    return f"{percent(rate.value)} [{span(rate.interval)}] {rate.episodes}"


def _stages(run: RunContents) -> Table:
    from videopolicy.console.progress import duration

    table = _table("stage", "trains", "steps", "time", "final losses", right=("steps", "time"))
    for name in run.stage_names:
        stage = run.stage(name)
        planned: dict[str, Any] = next((s for s in run.recipe.get("train") or [] if s.get("name") == name), {})
        if stage is None:
            target, steps = (str(planned.get(key, "")) for key in ("target", "steps"))
            table.add_row(name, target, steps, "", "not finished")
            continue
        losses = ", ".join(f"{loss} {value:.4g}" for loss, value in stage.final_losses.items())
        time = duration(stage.seconds) if stage.seconds is not None else ""
        target = stage.target or str(planned.get("target", ""))
        table.add_row(name, target, str(stage.steps), time, losses + (" (reused)" if stage.reused else ""))
    return table


def _published(published: PublishedTable) -> Table:
    from videopolicy.outcomes.published import SIGN

    shares = all(value.endswith(SIGN) for _, values in published.rows for value in values if value)
    head = f"{published.metric} in %" if shares else published.metric
    table = _table(head, *published.columns, right=published.columns)
    table.columns[0].no_wrap = max(len(name) for name, _ in published.rows) <= _LONG_NAME
    for name, values in published.rows:
        table.add_row(name, *(value.removesuffix(SIGN) if shares else value for value in values))
    return table
