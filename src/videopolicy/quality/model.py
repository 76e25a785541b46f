"""What is known of a run's predicted videos, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopolicy.errors import StorageError
from videopolicy.storage.integrity import read_mapping
from videopolicy.storage.run_folder import RunFolder


@dataclass(frozen=True)
class VideoQuality:
    """How well the video model predicts clips of episodes that nothing was trained on.

    Args:
        clips: Number of clips.
        source: Where they are from, such as ``64 clips of 12 held-out episodes``.
        offsets: Control steps from the present frame to every predicted one.
        values: By metric: ``psnr`` (dB) and ``ssim``, the same of repeating the present frame (``psnr_still``,
            ``ssim_still``), and ``lpips`` and ``fvd`` where their networks were given.
    """

    clips: int
    source: str
    offsets: tuple[int, ...]
    values: Mapping[str, float]


def read_quality(run_folder: Path) -> VideoQuality | None:
    """What was measured of a run; None where nothing was, or where its file is damaged."""
    return quality_of(read_facts(RunFolder(run_folder).quality_file))


def quality_of(facts: Mapping[str, Any]) -> VideoQuality | None:
    """The same from the content of its file; None where that is incomplete."""
    try:
        values = {str(name): float(value) for name, value in facts["values"].items()}
        return VideoQuality(int(facts["clips"]), str(facts["source"]), tuple(map(int, facts["offsets"])), values)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


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
