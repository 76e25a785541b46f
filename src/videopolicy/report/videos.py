"""Rollout videos: a success and a failure of the trained policy for every task, filmed by replaying them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.console.progress import Reporter
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord
from videopolicy.report.made import keep_current
from videopolicy.report.media import enlarge, write_mp4
from videopolicy.report.replay import Replay, load_trajectory, replay, replay_key
from videopolicy.storage.files import write_json
from videopolicy.storage.identity import digest
from videopolicy.storage.run_folder import RunFolder

INDEX = "videos.json"
_FRAMES_PER_SECOND = 20


def first_episode(records: Iterable[EpisodeRecord], task: str, success: bool) -> EpisodeRecord | None:
    """The trained policy's first episode of a task with this outcome: chosen by number, not by looks."""
    fitting = [
        record
        for record in records
        if record.policy == "trained" and record.task == task and record.success is success and record.error is None
    ]
    return min(fitting, key=lambda record: record.episode, default=None)


@dataclass(frozen=True)
class _Film:
    name: str
    job: Replay
    key: str


def make_videos(folder: RunFolder, benchmark: BenchmarkComponent, reporter: Reporter, workers: int = 2) -> None:
    """Make ``videos/<task>-success.mp4`` and ``-failure.mp4``, as far as such episodes exist and films are missing.

    Films whose episode is no longer the one to show are removed. A film plays in real time at about 20 frames
    a second. How the replay ended is compared with the record and noted in ``videos/videos.json``.

    Args:
        folder: Of the run, with episodes and trajectories.
        benchmark: Of the run; filmed through its ``closeup``.
        reporter: Shows progress.
        workers: Simulator processes.
    """
    videos = folder.videos
    closeup = benchmark.closeup()
    camera, rate = closeup.spaces().cameras[0].name, closeup.spaces().actions.rate
    stride = max(1, round(rate / _FRAMES_PER_SECOND))
    films = _films(folder, benchmark, stride, digest(closeup.model_dump(mode="json")), reporter)
    index = keep_current(videos / INDEX, {film.name: film.key for film in films}, lambda name: [name], reporter.line)
    missing = {id(film.job): film for film in films if film.name not in index}
    if not missing:
        return

    def finished(job: Replay) -> None:
        film = missing[id(job)]
        if not job.error:
            frames = [enlarge(job.frame(time, camera)) for time in sorted(job.observations)]
            write_mp4(videos / film.name, frames, rate / stride)
            index[film.name] = {
                "key": film.key,
                "task": job.record.task,
                "episode": job.record.episode,
                "success": job.record.success,
                "steps": job.record.steps,
                "control_rate": rate,
                "differences": job.differences,
                **job.record.model_dump(include={"instruction", "subtasks"}),
            }
            write_json(videos / INDEX, index)
        if job.differences:
            reporter.line(f"The replay of {job.record.task} episode {job.record.episode}: {job.differences}.")
        progress.advance(1, film.name)

    with reporter.activity("film episodes", len(missing)) as progress:
        replay(closeup, [film.job for film in missing.values()], folder.logs / "videos", workers, finished)


def _films(
    folder: RunFolder, benchmark: BenchmarkComponent, stride: int, camera_key: str, reporter: Reporter
) -> list[_Film]:
    records = EpisodeLog(folder.episodes_file).read()
    films = []
    for task in benchmark.tasks():
        for success, outcome in ((True, "success"), (False, "failure")):
            record = first_episode(records, task.name, success)
            actions = load_trajectory(folder, record, reporter.line) if record else None
            if record is None or actions is None:
                continue
            times = frozenset([*range(0, len(actions), stride), len(actions)])
            key = replay_key(record, actions, stride, camera_key)
            films.append(_Film(f"{task.name}-{outcome}.mp4", Replay(record, actions, times), key))
    return films
