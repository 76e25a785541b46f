"""Frozen features computed once and kept on disk.

While a backbone is frozen its features of a window never change, so a stage that trains only what comes after
them reads them from a file. Each window's noise is drawn from a generator of its own: the file does not depend
on the size of the blocks in which it was computed, up to rounding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from videopolicy.console.monitor import Clock
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Windows
from videopolicy.contracts.extractor import CachesFeatures
from videopolicy.seeds import derived_seed
from videopolicy.storage.files import storage_errors, write_json
from videopolicy.storage.store import Store
from videopolicy.training.normalization import Normalizer
from videopolicy.types import Batch, RowGenerator, with_features

FEATURES, PROGRESS = "features.npy", "progress.json"
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
    progress_facts = _progress(folder)
    done, clock = int(progress_facts.get("done", 0)), Clock(progress_facts)
    if Store.finished(folder) is None:
        array = np.load(path, mmap_mode="r+") if done else None
        with reporter.stage("compute frozen features", len(windows), done) as progress:
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
                progress.advance(len(block))
                if start // BLOCK % 16 == 15:
                    with storage_errors(path):
                        array.flush()
                    write_json(folder / PROGRESS, {"done": start + len(block), **clock.spent()})
        if array is not None:
            array.flush()
        Store.finish(folder, {"windows": len(windows), "bytes": path.stat().st_size, **clock.spent()})
    Store.used(folder)
    facts = Store.finished(folder) or {}
    return CachedWindows(windows, np.load(path, mmap_mode="r"), facts.get("processor_seconds", 0.0))


def _progress(folder: Path) -> dict[str, float]:
    """How many windows' features are safely in the file (``done``), and what they took."""
    if not (folder / FEATURES).is_file():
        return {}
    try:
        return dict(json.loads((folder / PROGRESS).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}
