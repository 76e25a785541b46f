"""The video model's predicted future beside what really happened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.console.progress import Reporter
from videopolicy.contracts.benchmark import Task
from videopolicy.report.contents import read_run
from videopolicy.report.made import keep_current
from videopolicy.report.media import enlarge, write_mp4, write_png
from videopolicy.report.replay import Replay, load_trajectory, replay, replay_key
from videopolicy.report.videos import first_episode
from videopolicy.seeds import derived_seed
from videopolicy.storage.files import write_json
from videopolicy.storage.identity import digest
from videopolicy.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from videopolicy.contracts.policy import Policy
    from videopolicy.evaluation.forecasting import Forecaster
    from videopolicy.training.normalization import Normalizer

INDEX = "predictions.json"
_SECONDS_PER_CLIP = 2.0
_SHOWN_FRAMES = 8
"""More frames than this are thinned out in the picture, never in the numbers."""


@dataclass(frozen=True)
class _Forecast:
    """One prediction to make: from which step of which episode."""

    task: Task
    job: Replay
    now: int
    key: str


def make_predictions(
    folder: RunFolder,
    benchmark: BenchmarkComponent,
    policy: Policy,
    reporter: Reporter,
    normalizer: Normalizer | None = None,
    workers: int = 2,
) -> None:
    """Let the policy's video model predict from the middle of a success of every task, and keep both futures.

    Writes ``videos/<task>-prediction.png`` (a row of real frames above a row of predicted ones), ``.mp4``
    (real and predicted side by side) and ``videos/predictions.json``. Where a task has no success, its first
    failure serves. What is there already for the same weights and episode is left alone. A policy that cannot
    predict video gets nothing.

    Args:
        folder: Of the run, with episodes, trajectories and the stages' keys in its provenance.
        benchmark: Of the run; seen through the policy's own cameras.
        policy: Trained; the first of its modules that predicts video is asked, with a fixed generator.
        reporter: Shows progress.
        normalizer: Scales the state where the prediction uses it.
        workers: Simulator processes.
    """
    from videopolicy.evaluation.forecasting import Forecaster

    forecaster = Forecaster.of(policy)
    if forecaster is None:
        return
    offsets = forecaster.offsets
    run = read_run(folder.path, benchmark)
    weights = [stage.key for stage in run.provenance.stages] if run.provenance else []
    weights.append(digest(run.recipe.get("policy")))  # options that matter only when acting are in no stage's key
    wanted = {}
    for task in benchmark.tasks():
        record = first_episode(run.records, task.name, True) or first_episode(run.records, task.name, False)
        actions = load_trajectory(folder, record) if record else None
        if record is not None and actions is not None:
            now = max(0, (len(actions) - offsets[-1]) // 2)
            seen = (max(record.begun_at(now), now + offset) for offset in forecaster.window.observed)
            times = {*seen, *(max(0, now + offset) for offset in (0, *offsets))}
            job = Replay(record, actions[: max(times)], frozenset(times))
            wanted[task.name] = _Forecast(task, job, now, replay_key(record, actions, now, weights))
    videos = folder.videos
    index = keep_current(videos / INDEX, {name: one.key for name, one in wanted.items()}, files_of, reporter.line)
    missing = {id(one.job): one for name, one in wanted.items() if name not in index}
    if not missing:
        return
    policy.eval()

    def finished(job: Replay) -> None:
        forecast = missing[id(job)]
        problem = job.error
        if not problem and job.initial_state != job.record.initial_state:
            problem = "began in another state, so there is no real future to compare with."
        if not problem and not any(forecast.now + offset in job.observations for offset in offsets):
            problem = "ended before the first predicted frame."
        if problem:
            reporter.line(f"The replay of {job.record.task} episode {job.record.episode}: {problem}")
        else:
            rate = benchmark.spaces().actions.rate
            index[forecast.task.name] = {
                "key": forecast.key,
                "task": forecast.task.name,
                "episode": job.record.episode,
                "success": job.record.success,
                "now": forecast.now,
                "control_rate": rate,
                **_predict(forecaster, forecast, videos, normalizer),
            }
            write_json(videos / INDEX, index)
        progress.advance(1, forecast.task.name)

    with reporter.activity("predict futures", len(missing)) as progress:
        jobs = [forecast.job for forecast in missing.values()]
        replay(benchmark, jobs, folder.logs / "predictions", workers, finished)


def files_of(task: str) -> list[str]:
    """Names of the picture and of the film of one task."""
    return [f"{task}-prediction.png", f"{task}-prediction.mp4"]


def psnr(predicted: np.ndarray, real: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 images, infinite for equal ones."""
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio

    first, second = (torch.from_numpy(np.ascontiguousarray(image)).double() / 255 for image in (predicted, real))
    return float(peak_signal_noise_ratio(first, second, data_range=1.0))


def _predict(
    forecaster: Forecaster, forecast: _Forecast, folder: Path, normalizer: Normalizer | None
) -> dict[str, Any]:
    """Predict, compare, and write the picture and the film of one forecast.

    Returns:
        Offsets of the frames, PSNR of the prediction over all future frames, and PSNR of repeating the present
        frame: what predicting that nothing moves would reach.
    """
    offsets, predicted, real, present = _both_futures(forecaster, forecast, normalizer)
    picture, film = (folder / name for name in files_of(forecast.task.name))
    count = min(_SHOWN_FRAMES, len(offsets))
    shown = [round(t) for t in np.linspace(0, len(offsets) - 1, count)]
    rows = [np.concatenate(list(frames[shown]), axis=1) for frames in (real, predicted)]
    write_png(picture, np.concatenate(rows))
    gap = np.full((real.shape[1], 2, 3), 255, np.uint8)
    pairs = [enlarge(np.concatenate([r, gap, p], axis=1)) for r, p in zip(real, predicted, strict=True)]
    write_mp4(film, pairs, len(pairs) / _SECONDS_PER_CLIP)
    future = [t for t, offset in enumerate(offsets) if offset > 0]
    return {
        "offsets": offsets,
        "shown": [offsets[t] for t in shown],
        "height": real.shape[1],
        "width": real.shape[2],
        "psnr": psnr(predicted[future], real[future]),
        "psnr_still": psnr(np.broadcast_to(present, real[future].shape), real[future]),
    }


def _both_futures(
    forecaster: Forecaster, forecast: _Forecast, normalizer: Normalizer | None
) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """The frames of the prediction and of the replay at the prediction's resolution.

    Returns:
        The T offsets that the episode reached, the predicted and the real frames ``(T, H, V * W, 3)`` uint8 with
        the views side by side, and the present frame ``(H, V * W, 3)``.
    """
    import torch

    from videopolicy.evaluation.acting import Seen, last_actions, stack_observations
    from videopolicy.types import Batch

    job, now, window = forecast.job, forecast.now, forecaster.window
    begun, sentence = job.record.begun_at(now), job.record.sentence_at(now) or forecast.task.instruction
    seen = [job.observations[max(begun, now + offset)] for offset in window.observed]
    past = last_actions(job.actions[begun:now], window.past_actions) if window.past_actions else None
    batch = Batch(stack_observations([Seen(seen, sentence, past)]))
    if window.horizon:
        ahead = job.actions[now : now + window.horizon]
        unknown = np.full((window.horizon - len(ahead), ahead.shape[1]), np.nan, np.float32)
        batch.actions = torch.from_numpy(np.concatenate([ahead, unknown]))[None]
    batch = batch.to(next(forecaster.model.parameters()).device)
    if normalizer is not None:
        batch = normalizer.batch(batch)
    with torch.inference_mode():
        clip = forecaster.predict(batch, [derived_seed("prediction", forecast.task.name, job.record.episode)])

    reached = [t for t, offset in enumerate(forecaster.offsets) if now + offset in job.observations]
    offsets = [forecaster.offsets[t] for t in reached]
    happened = [job.observations[now + offset] for offset in (*offsets, 0)]
    views = forecaster.real(stack_observations([Seen(happened, "")]).images, clip)
    frames = [_side_by_side(view.numpy()) for view in (clip[0][:, reached], views[0])]
    return offsets, frames[0], frames[1][:-1], frames[1][-1]


def _side_by_side(views: np.ndarray) -> np.ndarray:
    """``(V, T, 3, H, W)`` to ``(T, H, V * W, 3)``."""
    count, frames, _, height, width = views.shape
    return views.transpose(1, 3, 0, 4, 2).reshape(frames, height, count * width, 3)
