"""Rollouts for Rerun's viewer: what the policy saw and did, and the sentence that it was conditioned on, by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.console.progress import Reporter
from videopolicy.errors import StorageError, VpolicyError
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.report.replay import Replay, load_trajectory, replay
from videopolicy.report.videos import first_episode
from videopolicy.storage.files import written_whole
from videopolicy.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from videopolicy.spaces import Spaces

_JPEG_QUALITY = 90


def write_rollouts(
    folder: RunFolder, benchmark: BenchmarkComponent, path: Path, reporter: Reporter, workers: int = 2
) -> int:
    """Write a recording of the trained policy's first success and first failure of every task, one file for all.

    Episodes are replayed in the simulator, through the cameras that the policy sees. Below ``TASK/success`` and
    ``TASK/failure`` stand ``camera/NAME`` (JPEG), ``state`` and ``action`` (named series, in the benchmark's units) and
    ``instruction``, on the timelines ``step`` and ``time``; the episode itself says its number and how it ended.

    Args:
        folder: Of the run, with episodes and trajectories.
        benchmark: Of the run.
        path: The file, such as ``rollouts.rrd``.
        reporter: Shows progress.
        workers: Simulator processes.

    Returns:
        How many episodes are in it.

    Raises:
        VpolicyError: Rerun is not installed.
        StorageError: The run holds no episode that could be replayed.
    """
    try:
        import rerun
    except ModuleNotFoundError:
        raise VpolicyError(
            "Rollouts for Rerun need its package, which is not installed.", "Install videopolicy[rerun]."
        ) from None
    jobs = _jobs(folder, benchmark, reporter)
    if not jobs:
        raise StorageError(
            f"{folder.path} holds no episode of the trained policy with its actions.",
            "Run its recipe with eval.episodes=1 or more, or restore the folder trajectories.",
        )
    spaces = benchmark.spaces()
    written = 0
    with written_whole(path) as part, reporter.activity("replay episodes", len(jobs)) as progress:
        recording = rerun.RecordingStream("videopolicy", recording_id=folder.path.name)
        recording.save(str(part))

        def finished(job: Replay) -> None:
            nonlocal written
            if job.differences:
                reporter.line(f"The replay of {job.record.task} episode {job.record.episode}: {job.differences}.")
            if not job.error:
                _log(rerun, recording, job, spaces)
                written += 1
            progress.advance(1, job.record.task)

        try:
            replay(benchmark, jobs, folder.logs / "rollouts", workers, finished)
        finally:
            recording.flush()
            recording.disconnect()
    return written


def _jobs(folder: RunFolder, benchmark: BenchmarkComponent, reporter: Reporter) -> list[Replay]:
    records, jobs = EpisodeLog(folder.episodes_file).read(), []
    for task in benchmark.tasks():
        for success in (True, False):
            record = first_episode(records, task.name, success)
            actions = load_trajectory(folder, record, reporter.line) if record else None
            if record is not None and actions is not None:
                jobs.append(Replay(record, actions, frozenset(range(len(actions) + 1))))
    return jobs


def _log(rerun: Any, recording: Any, job: Replay, spaces: Spaces) -> None:
    """Put one replayed episode into a recording of Rerun's."""
    record = job.record
    place = [record.task, "success" if record.success else "failure"]
    facts = f"Episode {record.episode}: {place[1]} after {record.steps} steps."
    if job.differences:
        facts += f" The replay: {job.differences}."
    recording.log(place, rerun.TextDocument(facts), static=True)
    names = {"action": spaces.actions.names, "state": spaces.state.names if spaces.state else ()}
    for series, of in names.items():
        if of:
            recording.log([*place, series], rerun.SeriesLines(names=list(of)), static=True)
    said = None
    for step in sorted(job.observations):
        seen = job.observations[step]
        recording.set_time("step", sequence=step)
        recording.set_time("time", duration=step / spaces.actions.rate)
        for camera, image in seen["images"].items():
            recording.log([*place, "camera", camera], rerun.Image(image).compress(jpeg_quality=_JPEG_QUALITY))
        if seen.get("state") is not None:
            recording.log([*place, "state"], rerun.Scalars(seen["state"]))
        if step < len(job.actions):
            recording.log([*place, "action"], rerun.Scalars(job.actions[step]))
        sentence = record.sentence_at(step)
        if sentence and sentence != said:
            recording.log([*place, "instruction"], rerun.TextDocument(sentence))
            said = sentence
