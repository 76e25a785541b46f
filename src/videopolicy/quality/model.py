"""What is known of a run's predicted videos and inferred actions, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopolicy.errors import StorageError
from videopolicy.storage.integrity import read_mapping
from videopolicy.storage.run_folder import RunFolder


@dataclass(frozen=True)
class InverseError:
    """How far actions that were inferred from real frames are from those that were executed.

    As Li et al. 2025 (arXiv 2503.00200, section VIII) measure inverse dynamics: the Euclidean distance between inferred
    and true action. Their Table VI has that of positions and rotations to motion capture; here it is that to the
    recorded actions, in the benchmark's own units, over all their dimensions and over those of the position.

    Args:
        l2: Mean over windows of the mean over their actions.
        interval: Its 95 % interval, Student's t over windows; None for a single one. Windows of one episode are more
            alike than those of several, so that it is rather too narrow.
        windows: n.
        actions: Of a window.
        constant: What answering the mean action of the training episodes would reach.
        position: The same as ``l2`` over the dimensions x, y and z, where actions have others too; None elsewhere.
    """

    l2: float
    interval: tuple[float, float] | None
    windows: int
    actions: int
    constant: float
    position: float | None = None


@dataclass(frozen=True)
class VideoQuality:
    """How well the video model predicts clips of episodes that nothing was trained on.

    Args:
        clips: Number of clips.
        source: Where they are from, such as ``64 clips of 12 held-out episodes``.
        offsets: Control steps from the present frame to every predicted one.
        values: By metric: ``psnr`` (dB) and ``ssim``, the same of repeating the present frame (``psnr_still``,
            ``ssim_still``), ``lpips`` and ``fvd`` where their networks were given, and ``inverse_l2`` of policies that
            infer actions. Empty but for that where no video is predicted.
        inverse: Of policies that infer actions.
    """

    clips: int
    source: str
    offsets: tuple[int, ...]
    values: Mapping[str, float]
    inverse: InverseError | None = None


def read_quality(run_folder: Path) -> VideoQuality | None:
    """What was measured of a run; None where nothing was, or where its file is damaged."""
    return quality_of(read_facts(RunFolder(run_folder).quality_file))


def quality_of(facts: Mapping[str, Any]) -> VideoQuality | None:
    """The same from the content of its file; None where that is incomplete."""
    try:
        values = {str(name): float(value) for name, value in facts["values"].items()}
        inverse = _inverse(facts["inverse"]) if facts.get("inverse") is not None else None
        offsets = tuple(map(int, facts["offsets"]))
        return VideoQuality(int(facts["clips"]), str(facts["source"]), offsets, values, inverse)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None


def _inverse(facts: Mapping[str, Any]) -> InverseError:
    interval, position = facts["interval"], facts["position"]
    return InverseError(
        float(facts["l2"]),
        None if interval is None else (float(interval[0]), float(interval[1])),
        int(facts["windows"]),
        int(facts["actions"]),
        float(facts["constant"]),
        None if position is None else float(position),
    )


def read_facts(path: Path) -> dict[str, Any]:
    """Everything in the file; empty where it is absent or damaged."""
    try:
        return read_mapping(path) or {}
    except StorageError:
        return {}


def damaged_facts(path: Path) -> str:
    """What is wrong with the file; empty where nothing is, or where there is no file."""
    try:
        facts = read_mapping(path)
    except StorageError as error:
        return error.message
    return f"{path} is damaged: it is incomplete." if facts is not None and quality_of(facts) is None else ""
