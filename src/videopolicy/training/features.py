"""Frozen features computed once and kept on disk.

While a backbone is frozen its features of a window never change, so a stage that trains only what comes after
them reads them from a file. Each window's noise is drawn from a generator of its own: the file does not depend
on the size of the blocks in which it was computed, up to rounding.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videopolicy.console.monitor import Clock
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Windows
from videopolicy.contracts.extractor import CachesFeatures
from videopolicy.errors import StorageError
from videopolicy.seeds import derived_seed
from videopolicy.storage.files import storage_errors, write_json
from videopolicy.storage.integrity import MARKER, PROGRESS, read_mapping
from videopolicy.storage.store import Store
from videopolicy.training.normalization import Normalizer
from videopolicy.types import Batch, RowGenerator, with_features

FEATURES = "features.npy"
BLOCK = 16


class CachedWindows:
    """Windows with their frozen features.

    Args:
        windows: The windows themselves.
        features: ``(len(windows), ...)``, usually a memory map.
        processor_seconds: What computing them took, whenever that was.
    """

    def __init__(self, windows: Windows, features: np.ndarray, processor_seconds: float) -> None:
        self.windows, self.features, self.processor_seconds = windows, features, processor_seconds

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, indices: Sequence[int]) -> Batch:
        features = torch.from_numpy(self.features[np.asarray(indices)]).float()
        return with_features(self.windows.batch(indices), features)


@torch.inference_mode()
def cache_features(
    learner: CachesFeatures,
    normalizer: Normalizer,
    windows: Windows,
    seed: int,
    folder: Path,
    device: torch.device,
    reporter: Reporter,
) -> CachedWindows:
    """Compute the features of all windows, or go on where an earlier call was killed.

    What is damaged is named and computed again: it costs nothing but time.

    Args:
        learner: In evaluation mode, on ``device``.
        normalizer: Scales the observations.
        windows: The windows.
        seed: Of the run.
        folder: Gets the features as half precision.
        device: Where to compute.
        reporter: Shows progress.
    """
    path = folder / FEATURES
    if not _finished(folder, len(windows), reporter):
        array, progress_facts = _begun(folder, len(windows), reporter)
        done, clock = int(progress_facts.get("done", 0)), Clock(progress_facts)
        checksum = int(progress_facts.get("crc32", 0))
        with reporter.activity("compute frozen features", len(windows), done) as progress:
            for start in range(done, len(windows), BLOCK):
                indices = range(start, min(start + BLOCK, len(windows)))
                observation = normalizer.observation(windows.batch(indices).observation.to(device))
                generator = RowGenerator.from_seeds([derived_seed(seed, "features", index) for index in indices])
                block = learner.frozen_features(observation, generator).half().cpu().numpy()
                with storage_errors(path):
                    if array is None:
                        shape = (len(windows), *block.shape[1:])
                        array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
                    array[start : start + len(block)] = block
                checksum = zlib.crc32(block.tobytes(), checksum)
                progress.advance(len(block))
                if start // BLOCK % 16 == 15:
                    with storage_errors(path):
                        array.flush()
                    write_json(folder / PROGRESS, {"done": start + len(block), "crc32": checksum, **clock.spent()})
        if array is not None:
            array.flush()
        Store.finish(folder, {"windows": len(windows), "bytes": path.stat().st_size, **clock.spent()})
    Store.used(folder)
    facts = Store.finished(folder) or {}
    return CachedWindows(windows, np.load(path, mmap_mode="r"), facts.get("processor_seconds", 0.0))


def _finished(folder: Path, windows: int, reporter: Reporter) -> bool:
    """Whether the features of all windows are there and whole; what is damaged is no longer marked as finished."""
    try:
        if Store.finished(folder) is None:
            return False
        Store.ensure_whole(folder)
        return len(np.load(folder / FEATURES, mmap_mode="r")) == windows
    except (StorageError, OSError, ValueError, EOFError) as error:
        reason = error.message if isinstance(error, StorageError) else f"{folder / FEATURES} is damaged: {error}."
        reporter.line(f"{reason} The features are computed again.")
        for name in (MARKER, PROGRESS, FEATURES):
            (folder / name).unlink(missing_ok=True)
        return False


def _begun(folder: Path, windows: int, reporter: Reporter) -> tuple[np.memmap | None, dict[str, Any]]:
    """The file with the features that are there, and how many are (``done``), their checksum, and what they took."""
    path, array = folder / FEATURES, None
    try:
        facts = read_mapping(folder / PROGRESS) or {}
        done = int(facts.get("done", 0))
        if done and path.exists():
            array = np.load(path, mmap_mode="r+")
            if not isinstance(array, np.memmap) or array.dtype != np.float16 or len(array) != windows:
                raise ValueError("it has another shape")
            if _checksum(array, done) != facts.get("crc32"):
                raise ValueError("its checksum is another")
            return array, facts
    except (StorageError, OSError, ValueError, TypeError, EOFError) as error:
        reason = error.message if isinstance(error, StorageError) else f"{path} is damaged: {error}."
        reporter.line(f"{reason} The features are computed from the beginning.")
        with suppress(FileNotFoundError):
            (folder / PROGRESS).unlink()
    return None, {}


def _checksum(array: np.memmap, rows: int) -> int:
    """CRC-32 of the first rows."""
    found = 0
    for start in range(0, rows, BLOCK):
        found = zlib.crc32(array[start : min(start + BLOCK, rows)].tobytes(), found)
    return found
