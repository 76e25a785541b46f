"""Films of what every method does from the same initial states, made by replaying their recorded actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopolicy.compare.model import Comparison, Entry
from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.console.progress import Reporter
from videopolicy.errors import SimulationError, VpolicyError
from videopolicy.outcomes.records import EpisodeRecord
from videopolicy.report.made import keep_current
from videopolicy.report.media import fit, write_mp4
from videopolicy.report.replay import Replay, load_trajectory, replay, replay_key
from videopolicy.simulators.environments import is_ready
from videopolicy.storage.files import ensure_no_link_out, write_json
from videopolicy.storage.identity import digest
from videopolicy.storage.run_folder import RunFolder

INDEX = "films.json"
DIFFER, ALL, NONE = "differ", "all", "none"
"""How methods fared in a scene: some solved it, all did, none did."""

_RANKS = {DIFFER: (0, 1), ALL: (2,), NONE: (3,)}
"""How many scenes of a pattern a task has, and which come first."""

_FRAMES_PER_SECOND = 16
_CRF = 28
"""Coarser than in a run's own report: several films stand beside one another, in small."""

_MOST_FILMS = 120


@dataclass(frozen=True)
class Scene:
    """One initial state and what every method made of it.

    Args:
        task: Name of the task.
        episode: Index of the initial state.
        pattern: ``differ``, ``all`` or ``none``.
        records: By method, in the order of the comparison; of several seeds the first.
    """

    task: str
    episode: int
    pattern: str
    records: Mapping[str, EpisodeRecord]


def films_folder(page: Path) -> Path:
    """Where the films of a page are kept, so that a rerun makes only what is missing."""
    return page.with_name(f"{page.stem}-films")


def filmed_entries(comparison: Comparison) -> tuple[Entry, ...]:
    """Methods whose executed actions are kept: the trained ones."""
    return tuple(entry for entry in comparison.entries if entry.policy == "trained" and entry.runs)


def scenes(comparison: Comparison) -> list[Scene]:
    """A few episodes of every task, chosen by number and not by looks.

    Of every task these: the first episode in which the methods differ, the first in which they differ in another
    way, the first that all solve, the first that none solves. Only episodes count that all methods with episodes of
    the task finished from the same initial state.

    Returns:
        Those in which methods differ first, tasks in their order: where room is short, the last ones are left out.
    """
    found: dict[int, list[Scene]] = {}
    records = {entry.name: _by_episode(entry) for entry in filmed_entries(comparison)}
    for task in comparison.tasks:
        tried = {name: episodes[task] for name, episodes in records.items() if task in episodes}
        shared = sorted(set.intersection(*(set(episodes) for episodes in tried.values()))) if tried else []
        rank_of: dict[tuple[bool, ...], int] = {}
        for episode in shared:
            chosen = {name: episodes[episode] for name, episodes in tried.items()}
            outcome = tuple(record.success for record in chosen.values())
            if len({record.initial_state for record in chosen.values()}) > 1 or outcome in rank_of:
                continue
            pattern = ALL if all(outcome) else DIFFER if any(outcome) else NONE
            rank = next((rank for rank in _RANKS[pattern] if rank not in rank_of.values()), None)
            if rank is None:
                continue
            rank_of[outcome] = rank
            found.setdefault(rank, []).append(Scene(task, episode, pattern, chosen))
    return [scene for rank in sorted(found) for scene in found[rank]]


def _by_episode(entry: Entry) -> dict[str, dict[int, EpisodeRecord]]:
    """Finished episodes of the first seed, by task and number."""
    found: dict[str, dict[int, EpisodeRecord]] = {}
    for record in entry.records[0] if entry.records else ():
        if record.error is None:
            found.setdefault(record.task, {})[record.episode] = record
    return found


def facts_of(method: str, record: EpisodeRecord) -> dict[str, Any]:
    """What an entry of the index says about the episode that it shows."""
    return {"method": method, **record.model_dump(include={"task", "episode", "initial_state", "success", "steps"})}


@dataclass(frozen=True)
class _Film:
    key: str
    method: str
    job: Replay

    @property
    def name(self) -> str:
        return f"{self.key}.mp4"


def make_films(
    comparison: Comparison,
    folder: Path,
    reporter: Reporter,
    workers: int = 2,
    benchmark: BenchmarkComponent | None = None,
    trust: bool = False,
) -> None:
    """Film every method in the `scenes` of a comparison, as far as films are missing.

    A film plays in real time at about 16 frames a second. At most 120 are made, those where methods differ first.
    Where the simulator is not at hand nothing is made, and one line says how to get it.

    Args:
        comparison: With run folders that hold ``trajectories/``.
        folder: For the films and their index, see `films_folder`; what no scene shows any more is removed from it.
        reporter: Shows progress.
        workers: Simulator processes.
        benchmark: Filmed through its ``closeup``; by default the runs' recipes are asked for it.
        trust: Whether the Python files that they name may be run for that.

    Raises:
        StorageError: The folder cannot be written, or a link leads out of it.
    """
    benchmark = benchmark or _benchmark(comparison, reporter, trust)
    if benchmark is None or not _is_at_hand(benchmark, reporter):
        return
    ensure_no_link_out(folder, folder.parent)
    closeup = benchmark.closeup()
    camera, rate = closeup.spaces().cameras[0].name, closeup.spaces().actions.rate
    stride = max(1, round(rate / _FRAMES_PER_SECOND))
    films = {film.name: film for film in _films(comparison, stride, digest(closeup.model_dump(mode="json")))}
    index = keep_current(
        folder / INDEX, {name: film.key for name, film in films.items()}, lambda name: [name], reporter.line
    )
    missing = {id(film.job): film for name, film in films.items() if name not in index}

    def finished(job: Replay) -> None:
        film = missing[id(job)]
        if job.differences:
            record = job.record
            reporter.line(f"The replay of {film.method}, {record.task} episode {record.episode}: {job.differences}.")
        if not job.error:
            frames = [fit(job.frame(time, camera)) for time in sorted(job.observations)]
            write_mp4(folder / film.name, frames, rate / stride, _CRF)
            facts = {"key": film.key, "control_rate": rate, "differences": job.differences}
            index[film.name] = facts | facts_of(film.method, job.record)
            write_json(folder / INDEX, index)
        progress.advance(1, f"{film.method} {job.record.task}")

    if missing:
        with reporter.activity("film episodes", len(missing)) as progress:
            try:
                replay(closeup, [film.job for film in missing.values()], folder / "logs", workers, finished)
            except SimulationError as error:
                reporter.line(f"The films could not be made: {error}")


def _benchmark(comparison: Comparison, reporter: Reporter, trust: bool) -> BenchmarkComponent | None:
    """The benchmark of the first run whose recipe can be used here."""
    from videopolicy.recipes.trust import recorded_benchmark

    problem = "no trained method has a run folder."
    for run in (run for entry in filmed_entries(comparison) for run in entry.runs):
        try:
            folder = RunFolder(run)
            return recorded_benchmark(folder.recipe(), folder.recipe_file, trust)
        except VpolicyError as error:
            problem = str(error)
    reporter.line(f"No films: {problem}")
    return None


def _is_at_hand(benchmark: BenchmarkComponent, reporter: Reporter) -> bool:
    spec = benchmark.launch()
    if not is_ready(spec):
        reporter.line(
            f"No films: the simulator of '{benchmark.type}' is not installed. Make it with "
            f"`vpolicy env create {benchmark.type}` and run the same command again."
        )
    return is_ready(spec)


def _films(comparison: Comparison, stride: int, camera_key: str) -> Iterable[_Film]:
    runs = {entry.name: entry.runs[0] for entry in filmed_entries(comparison)}
    count = 0
    for scene in scenes(comparison):
        if count + len(scene.records) > _MOST_FILMS:
            return
        for method, record in scene.records.items():
            actions = load_trajectory(RunFolder(runs[method]), record)
            if actions is not None:
                times = frozenset([*range(0, len(actions), stride), len(actions)])
                key = replay_key(record, actions, method, stride, _CRF, camera_key)
                yield _Film(key, method, Replay(record, actions, times))
                count += 1
