"""Lets a policy predict clips of held-out episodes and infer their actions, and keeps how well it did."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videopolicy.contracts.dataset import Dataset, Windows
from videopolicy.contracts.policy import InfersActions
from videopolicy.evaluation.forecasting import Forecaster
from videopolicy.quality.inverse import ROWS, inverse_error, spread
from videopolicy.quality.model import VideoQuality, damaged_facts, quality_of, read_facts
from videopolicy.quality.networks import Networks, repetitions
from videopolicy.seeds import derived_seed
from videopolicy.storage.files import write_json
from videopolicy.storage.identity import digest
from videopolicy.storage.run_folder import RunFolder
from videopolicy.training.normalization import Normalizer
from videopolicy.training.session import Session
from videopolicy.training.stages import ScaledPolicy

if TYPE_CHECKING:
    from videopolicy.quality.meters import Meters

CLIPS = 64
TREND = 500
"""Videos below which a Fréchet distance between 400-dimensional features says little beyond a trend."""


def measure_quality(
    session: Session,
    trained: ScaledPolicy,
    dataset: Dataset | None,
    folder: RunFolder,
    clips: int = CLIPS,
    networks: Networks | None = None,
) -> VideoQuality | None:
    """Compare predicted with real futures, and inferred with executed actions, of episodes that nothing was trained on.

    Clips begin at the same steps of the same episodes for every policy on the same data, and every clip's noise is its
    own. Frames are compared at the size at which the model predicts them. Writes ``videos/quality.json``; what is there
    already for the same weights and data, of as many clips and with the same networks, is left alone.

    Args:
        session: The recipe of the run.
        trained: Its policy, on the session's device; the first of its modules that predicts video is asked, and the
            policy itself where it infers actions.
        dataset: What it was trained on, with the episodes that were held out; None where there is none.
        folder: Of the run, with the stages' keys in its provenance.
        clips: How many, spread evenly over the held-out episodes.
        networks: Weights for LPIPS and FVD, which are left out without them.

    Returns:
        What is in the file; None for a policy that does neither, or where no episode was held out.

    Raises:
        WeightsError: A network's file cannot be read, is something else, or is not trusted.
        VpolicyError: A network cannot take the frames of this model.
    """
    recipe, reporter = session.recipe, session.reporter
    policy, normalizer = trained
    forecaster, infers = Forecaster.of(policy), isinstance(policy, InfersActions) and policy.practises_inverse
    if (forecaster is None and not infers) or dataset is None:
        return None
    window = policy.window if forecaster is None else forecaster.window
    splits = [name for name, episodes in dataset.splits.items() if name != "train" and episodes]
    windows = dataset.windows(window, splits[0]) if splits else None
    if windows is None or not len(windows):
        reporter.line("video quality: not measured, as no episode was held out; data.validation=0.1 holds some out")
        return None
    networks = networks or Networks()
    count = min(clips, len(windows))
    identity: dict[str, Any] = {
        "stages": _stage_keys(folder),
        "policy": recipe.policy.model_dump(mode="json"),
        "data": [dataset.fingerprint(), splits[0]],
        "window": [window.observed, window.future],
    }
    key = digest({**identity, "inverse": True} if infers else identity)
    digests = networks.digests()
    if damage := damaged_facts(folder.quality_file):
        reporter.line(f"{damage} It is measured again.")
    facts = read_facts(folder.quality_file)
    if facts.get("key") == key and _covers(facts, count, digests):
        return quality_of(facts)
    policy.eval()
    episodes = dataset.splits[splits[0]]
    held_out = f"{episodes} held-out episode{'s' if episodes > 1 else ''}"
    source, sizes, values = f"{count} clips of {held_out}", [], {}
    if forecaster is not None:
        meters, shown = _compared(session, forecaster, windows, count, normalizer, networks)
        values, sizes = meters.values(), list(shown.shape[-2:])
        if networks.fvd is not None:
            trend = f", a trend below {TREND}" if meters.videos < TREND else ""
            source += f"; FVD of {meters.videos} videos of {_shown(shown)}{trend}"
    inverse = inverse_error(session, trained, dataset, splits[0], clips) if infers else None
    if inverse is not None:
        values["inverse_l2"] = inverse.l2
        inferred = f"inverse dynamics of {inverse.windows} windows"
        source = f"{source}; {inferred}" if forecaster is not None else f"{inferred} of {held_out}"
    facts = {
        "key": key,
        "clips": count,
        "source": source,
        "offsets": list(window.future),
        "size": sizes,
        "values": values,
        "inverse": None if inverse is None else asdict(inverse),
        "networks": {name: {"file": networks.files()[name].name, "sha256": text} for name, text in digests.items()},
    }
    write_json(folder.quality_file, facts)
    quality = quality_of(facts)
    assert quality is not None
    reporter.line(f"video quality: {described(quality)}")
    return quality


def _compared(
    session: Session,
    forecaster: Forecaster,
    windows: Windows,
    count: int,
    normalizer: Normalizer,
    networks: Networks,
) -> tuple[Meters, Tensor]:
    """All metrics over ``count`` clips, and some of those that were predicted ``(B, V, F, 3, H, W)``."""
    from videopolicy.quality.meters import Meters  # torchmetrics takes seconds to import

    meters = Meters(networks, session.device)
    indices = spread(count, len(windows))
    with session.reporter.activity("predict held-out clips", count) as progress, torch.inference_mode():
        for start in range(0, count, ROWS):
            chosen = indices[start : start + ROWS]
            frames = _futures(forecaster, windows, chosen, normalizer, session.device)
            meters.update(*frames)
            progress.advance(len(chosen))
    return meters, frames[0]


def _futures(
    forecaster: Forecaster, windows: Windows, indices: list[int], normalizer: Normalizer, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Predicted and real frames ``(B, V, F, 3, H, W)`` uint8 at the model's size, the present frame, and the mask
    ``(B, F)`` of those that the episodes had."""
    batch = windows.batch(indices)
    assert batch.future_mask is not None
    if batch.actions is not None and batch.action_mask is not None:
        batch.actions = batch.actions.masked_fill(~batch.action_mask[..., None], torch.nan)
    scaled = normalizer.batch(batch.to(device))
    clip = forecaster.predict(scaled, [derived_seed("quality", index) for index in indices])
    happened = {
        name: torch.cat([batch.observation.images[name][:, -1:], seen], 1) for name, seen in batch.future.items()
    }
    real = forecaster.real(happened, clip)
    return clip[:, :, forecaster.frames], real[:, :, 1:], real[:, :, :1], batch.future_mask


def _shown(clips: Tensor) -> str:
    """What FVD is shown of clips ``(B, V, F, 3, H, W)``; its network enlarges it to 224 pixels."""
    frames, (height, width) = clips.shape[2], clips.shape[-2:]
    times = repetitions(frames)
    repeated = f", each {times} times" if times > 1 else ""
    return f"{frames} future frames of {height} x {width} pixels{repeated}"


def described(quality: VideoQuality) -> str:
    """The metrics on one line, each beside that of repeating the present frame."""
    parts = []
    formats = (("psnr", "PSNR {:.1f} dB"), ("ssim", "SSIM {:.3f}"), ("lpips", "LPIPS {:.3f}"), ("fvd", "FVD {:.1f}"))
    for name, text in formats:
        if name in quality.values:
            still = quality.values.get(f"{name}_still")
            beside = f" (present frame repeated: {text.format(still).split(' ', 1)[1]})" if still is not None else ""
            parts.append(text.format(quality.values[name]) + beside)
    if (error := quality.inverse) is not None:
        span = "" if error.interval is None else f" [{error.interval[0]:.4f}, {error.interval[1]:.4f}]"
        position = "" if error.position is None else f", position alone {error.position:.4f}"
        parts.append(f"inverse dynamics L2 {error.l2:.4f}{span} (mean action: {error.constant:.4f}){position}")
    return f"{', '.join(parts) or 'nothing could be compared'}; {quality.source}"


def _covers(facts: dict[str, Any], clips: int, digests: dict[str, str]) -> bool:
    """Whether as many clips were compared, by the same networks at least."""
    known = {name: network.get("sha256") for name, network in (facts.get("networks") or {}).items()}
    return facts.get("clips", 0) >= clips and all(known.get(name) == text for name, text in digests.items())


def _stage_keys(folder: RunFolder) -> list[str]:
    provenance = folder.provenance()
    return [stage.key for stage in provenance.stages] if provenance else []
