"""``vpolicy store``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videopolicy.cli.interrupts import interruptible
from videopolicy.cli.verbs import Verbs
from videopolicy.console.text import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from videopolicy.storage.inventory import Artifact, Run
    from videopolicy.storage.store import Store

app = Verbs(no_args_is_help=True)
Runs = Annotated[
    list[Path] | None, typer.Option("--runs", help="Folder of run folders; may be repeated.", show_default="runs")
]


@app.command("list")
@interruptible
def list_artifacts(runs: Runs = None) -> None:
    """List what is kept: what it is, how large, how old, and which runs need it."""
    from videopolicy.console.terminal import Terminal
    from videopolicy.storage.inventory import others
    from videopolicy.storage.leftovers import leftovers

    store, _, found = _look(runs)
    console = Terminal()
    if found:
        console.print(_table(found))
    for left in leftovers(store, 1.0):
        console.print(f"left over: {left.what} ({len(left.paths)}), {_bytes(left.bytes)}")
    for name, size in others(store).items():
        console.print(f"{name}: {_bytes(size)}")
    unneeded = sum(not artifact.users for artifact in found)
    total = f"{_count(found)}, {_bytes(sum(artifact.bytes for artifact in found))}, in {store.root}"
    needed = f"no known run needs {unneeded} of them" if unneeded else "known runs need all of them"
    console.print(f"{total}; {needed}", soft_wrap=True)


@app.command()
@interruptible
def verify(
    runs: Runs = None, quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False
) -> None:
    """Read every file and compare it with what was written; exit code 2 when something is damaged."""
    from videopolicy.console.progress import Reporter
    from videopolicy.errors import StorageError, listing
    from videopolicy.storage.inventory import problems, verifiable

    _, _, found = _look(runs)
    sound, damaged, finished = 0, [], [one for one in found if one.facts is not None or one.damage]
    with Reporter(quiet).activity("verify", len(finished)) as progress:
        for artifact in finished:
            if wrong := list(problems(artifact)):
                damaged.append(artifact)
                say(f"{artifact.name}: {'; '.join(wrong)}")
            sound += verifiable(artifact) and not wrong
            progress.advance()
    unknown = len(finished) - sound - len(damaged)
    say(f"undamaged: {sound}" + (f"; for {unknown} no hashes were recorded" if unknown else ""))
    if damaged:
        users = listing({user for artifact in damaged for user in artifact.users})
        raise StorageError(
            f"{_count(damaged)} of {len(finished)} damaged.",
            "Copy them again from where they are whole, or remove them and run what needs them "
            f"({users}) again:\n" + "\n".join(f"  rm -r {artifact.folder}" for artifact in damaged),
        )


@app.command()
@interruptible
def prune(
    runs: Runs = None,
    days: Annotated[float, typer.Option(min=0.0, help="Leave what was used or changed within so many days.")] = 1.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """Remove what no run needs, after showing it: a run needs what it is made of while its folder is there."""
    import sys

    from videopolicy.console.terminal import Terminal
    from videopolicy.errors import StorageError
    from videopolicy.storage import inventory
    from videopolicy.storage.leftovers import leftovers

    store, known, found = _look(runs)
    if damaged := [run.damage for run in known if run.damage]:
        raise StorageError(
            f"It is not known what every run needs, so nothing is removed: {damaged[0]}",
            "Restore that file; or remove it, or move its folder away, if that run is no longer wanted.",
        )
    going, left_over = inventory.unneeded(found, days), leftovers(store, days)
    console = Terminal()
    places = ", ".join(sorted({str(run.folder.parent) for run in known}))
    console.print(f"known runs: {len(known)}{f', in {places}' if places else ''}", soft_wrap=True)
    if not going and not left_over:
        console.print(f"Nothing to remove: all is needed by a run, or was used or changed within {days:g} days.")
        return
    if going:
        console.print(_table(going))
    for one in left_over:
        console.print(f"left over: {one.what} ({len(one.paths)}), {_bytes(one.bytes)}")
    size = _bytes(sum(one.bytes for one in going) + sum(one.bytes for one in left_over))
    if not yes and not sys.stdin.isatty():
        console.print(f"{size} would be freed. Nothing was removed; add --yes to remove this.")
        return
    if not yes and not typer.confirm(f"Remove this and free {size}?"):
        return
    gone = [artifact for artifact in going if inventory.prune(store, artifact, days, runs or _default())]
    for one in left_over:
        one.remove()
    inventory.forget_runs(store)
    left = len(going) - len(gone)
    console.print(
        f"{_count(gone)} removed, {_bytes(sum(one.bytes for one in gone) + sum(one.bytes for one in left_over))} freed"
        + (f"; {left} in use and left" if left else "")
    )


def _default() -> list[Path]:
    return [Path("runs")]


def _look(runs: Sequence[Path] | None) -> tuple[Store, list[Run], list[Artifact]]:
    """The store, the runs that are known, and the artifacts.

    Raises:
        StorageError: The store, or a folder that was asked for, does not exist.
    """
    from videopolicy.errors import StorageError
    from videopolicy.storage.inventory import artifacts, existing, runs_of
    from videopolicy.storage.store import Store

    for folder in runs or ():
        if not folder.is_dir():
            raise StorageError(f"There is no folder {folder}.", "Name a folder of run folders with --runs.")
    store = existing(Store())
    known = runs_of(store, runs or _default())
    return store, known, artifacts(store, known, _environments())


def _environments() -> dict[str, str]:
    """Environments that installed benchmarks need, with their benchmarks."""
    from pydantic import ValidationError

    from videopolicy.components.kinds import BenchmarkComponent
    from videopolicy.components.registry import current_registry
    from videopolicy.errors import VpolicyError
    from videopolicy.simulators.environments import environment_folder

    wanted = {}
    for name in current_registry().names("benchmark"):
        try:
            benchmark = current_registry().get("benchmark", name).model_validate({"type": name})
            assert isinstance(benchmark, BenchmarkComponent)
            folder = environment_folder(benchmark.launch())
        except (VpolicyError, ValidationError):
            continue  # it has no simulator, or cannot do without options
        if folder is not None:
            wanted[f"environments/{folder.name}"] = f"benchmark {name}"
    return wanted


def _table(found: Sequence[Artifact]) -> Table:
    import time

    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("artifact", overflow="fold")
    table.add_column("what", overflow="fold", ratio=3)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("needed by", overflow="fold", ratio=2)
    kind = ""
    for one in found:
        if one.kind != kind:
            kind = one.kind
            table.add_row(Text(kind, "bold"))
        users = ", ".join(one.users[:3]) + (f" and {len(one.users) - 3} more" if len(one.users) > 3 else "")
        cells = (f"  {one.key}", one.what, _bytes(one.bytes), _age(time.time() - one.changed), users or "no run")
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _count(found: Sequence[Artifact]) -> str:
    return f"{len(found)} artifact{'' if len(found) == 1 else 's'}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _age(seconds: float) -> str:
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
