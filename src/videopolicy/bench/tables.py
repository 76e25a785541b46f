"""Results for the terminal; everything fits 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from videopolicy.bench.parts import OTHER, PARTS
from videopolicy.bench.results import BenchResult, Latency, SweepResult


def bench_tables(result: BenchResult) -> list[RenderableType]:
    """Headline, parts, batch sizes, parameters, training."""
    found: list[RenderableType] = [_headline(result)]
    if result.latency is not None:
        found += ["", Text(_latency(result, result.latency))]
    if result.compiled is not None:
        found.append(
            Text(
                f"Compiled {len(result.compiled.modules)} modules in {time(result.compiled.seconds)}; "
                f"normalised actions change by at most {result.compiled.largest_difference:.1e}."
            )
        )
    found += ["", _parts(result)]
    found += [Text(line, "dim") for line in _remarks(result)]
    if result.throughput:
        found += ["", _throughput(result)]
    found += ["", _parameters(result), "", _stages(result)]
    if any(stage.step_seconds is not None for stage in result.stages):
        found.append(Text("Forward, backward and optimiser step on random windows, without loading data.", "dim"))
        cached = ", ".join(stage.name for stage in result.stages if stage.cached_features)
        if cached:
            found.append(Text(f"Frozen features are not computed in {cached}: the recipe keeps them on disk.", "dim"))
    return found


def sweep_tables(result: SweepResult) -> list[RenderableType]:
    """One row per value."""
    title = f"{result.recipe}: {result.field}, {result.device}, {result.dtype}, weights: {result.weights}"
    timed = any(row.latency is not None for row in result.rows)
    compared = any(row.action_error is not None for row in result.rows)
    columns = ["latency", "p95"] * timed + ["operations"] + ["action error"] * compared
    table = _table(result.field.rpartition(".")[2], *columns)
    for row in result.rows:
        cells = [time(row.latency.median), time(row.latency.p95)] if row.latency else []
        cells.append(operations(row.operations))
        if row.action_error is not None:
            cells.append(f"{row.action_error:.4f}")
        table.add_row(str(row.value), *cells)
    found: list[RenderableType] = [Text(title, "bold"), table]
    if compared:
        text = f"Action error: mean absolute error of normalised actions, {result.windows}."
        found.append(Text(text, "dim"))
    return found


def _headline(result: BenchResult) -> Text:
    where = result.machine.get("accelerator") if result.device.startswith("cuda") else result.machine.get("processor")
    threads = f", {result.threads} thread{'s' * (result.threads > 1)}" if result.device == "cpu" else ""
    name = "shapes only" if result.device == "meta" else f"{where or result.device}{threads}"
    return Text(f"{result.recipe}: {name}, {result.dtype}, weights: {result.weights}", "bold")


def _latency(result: BenchResult, latency: Latency) -> str:
    rate = result.executed / latency.median
    return (
        f"One chunk of {result.horizon} actions: median {time(latency.median)}, p95 {time(latency.p95)}, "
        f"fastest {time(latency.fastest)}\n"
        f"({latency.calls} calls after {latency.warmup_calls} to warm up; the very first took {time(latency.first)}).\n"
        f"With {result.executed} of {result.horizon} executed: {_digits(rate)} actions a second; "
        f"the robot's control rate is {result.control_rate:g} Hz."
    )


def _parts(result: BenchResult) -> Table:
    split = result.split
    table = _table("part", *(("time", "share") if split else ()), "operations")
    for part in PARTS:
        seconds = split.seconds.get(part) if split else None
        count = result.operations.get(part, 0)
        if part == OTHER or seconds is not None or count:
            times = [time(seconds or 0.0), f"{100 * (seconds or 0.0) / split.total:.1f} %"] if split else []
            table.add_row(part, *times, operations(count))
    table.add_section()
    totals = [time(split.total), ""] if split else []
    table.add_row("one chunk", *totals, operations(result.total_operations), style="bold")
    return table


def _remarks(result: BenchResult) -> list[str]:
    found = []
    if result.split is not None:
        found.append(f"Parts: means of {result.split.calls} calls that wait for the device at every border.")
        if result.split.new_sentence_text:
            found.append(f"A sentence never seen before adds {time(result.split.new_sentence_text)} of text once.")
    found.append("Operations: matrix products, convolutions, attention; a multiply-add counts two.")
    if result.device_peak is not None and result.share_of_peak is not None:
        share = 100 * result.share_of_peak
        found.append(
            f"{share:.1f} % of this device's {operations(round(result.device_peak))}/s, which a large matrix product "
            f"of {result.dtype} reached here."
        )
    return found


def _throughput(result: BenchResult) -> Table:
    table = _table("batch size", "one call", "chunks a second", "peak memory")
    for row in result.throughput:
        if row.median is None or row.chunks_per_second is None or row.peak_memory_bytes is None:
            table.add_row(str(row.batch_size), "out of memory", "", "")
        else:
            cells = time(row.median), _digits(row.chunks_per_second), memory(row.peak_memory_bytes)
            table.add_row(str(row.batch_size), *cells)
    return table


def _parameters(result: BenchResult) -> Table:
    table = _table("module", "parameters")
    for path, count in result.parameters.items():
        table.add_row(path, f"{count:,}")
    table.add_section()
    table.add_row("all", f"{result.total_parameters:,}", style="bold")
    return table


def _stages(result: BenchResult) -> Table:
    timed = any(stage.step_seconds is not None for stage in result.stages)
    columns = ["trainable", "batch", *(("a step", "samples/s", "peak memory") if timed else ())]
    table = _table("stage", "trains", *columns, left=2)
    for stage in result.stages:
        cells = [f"{stage.trainable_parameters:,}", str(stage.batch_size)]
        if stage.step_seconds is not None and stage.peak_memory_bytes is not None:
            cells += [
                time(stage.step_seconds),
                _digits(stage.samples_per_second or 0.0),
                memory(stage.peak_memory_bytes),
            ]
        table.add_row(stage.name, stage.target.rpartition(".")[2], *cells)
    return table


def _table(*columns: str, left: int = 1) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    return table


def time(seconds: float) -> str:
    """Three digits: ``12.3 ms``, ``1.23 s``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds / 1e-6)} µs" if seconds >= 1e-6 else "0"


def operations(count: int) -> str:
    """Three digits: ``14.7 TFLOP``."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{_digits(count / size)} {unit}FLOP"
    return f"{count} FLOP" if count else "0"


def memory(count: int) -> str:
    """Such as ``1.23 GB``."""
    return f"{_digits(count / 1e9)} GB" if count >= 1e9 else f"{_digits(count / 1e6)} MB"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"
