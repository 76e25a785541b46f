"""Frames of a stage's data, encoded once by the autoencoder of what the stage trains, and kept.

Windows are taken in blocks, each of which is written whole. Any number of processes, also on other machines that see
the folder, work on different blocks at once, and whatever ends them, the next one goes on with what is missing. What is
drawn for a block follows from the recipe's seed and the block's number, not from who makes it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videopolicy.components.kinds import DatasetComponent
from videopolicy.contracts.dataset import Dataset, Windows
from videopolicy.contracts.latents import EncodedRun, EncodesFrames
from videopolicy.contracts.learner import Learner
from videopolicy.data.own import open_parts
from videopolicy.errors import BusyError, RecipeError
from videopolicy.recipes.recipe import Stage
from videopolicy.seeds import derived_seed
from videopolicy.storage.files import locked_file, storage_errors
from videopolicy.storage.identity import digest
from videopolicy.training.planning import trained_part
from videopolicy.training.session import Session
from videopolicy.training.stages import build_learner
from videopolicy.types import Batch

BLOCK = 256
"""Windows of a block: at 256 pixels and 16 frames about 64 MiB where no two share a frame."""
READ = 16
"""Windows that are read at a time."""
LONGEST = 32
"""Windows of a run, whose frames are stored together."""
FRAMES = 32
"""Frames that are encoded at a time."""
SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Encoded:
    """What was encoded.

    Args:
        name: Of the part of a mixture; empty for data that are not mixed.
        folder: Where its latents lie.
        windows: How many, of all splits.
    """

    name: str
    folder: Path
    windows: int


def encode(
    session: Session, stage: Stage, dataset: Dataset | None, folder: Path, kind: DatasetComponent
) -> list[Encoded]:
    """Encode the data of a stage, or go on with it.

    Args:
        session: The recipe.
        stage: Whose data, and whose autoencoder.
        dataset: The recipe's own data, open.
        folder: Gets one folder for every part of a mixture.
        kind: A dataset that can hold latents, of whatever path.

    Raises:
        RecipeError: What the stage trains needs the frames themselves.
    """
    recipe, component = session.recipe, trained_part(session.recipe, stage.target)
    encoder = component.frame_encoder()
    if encoder is None:
        raise RecipeError(
            f"{stage.target} ('{component.type}') has no frozen autoencoder that training could do with alone.",
            "Encode for a video model with one, without what changes pictures in training.",
        )
    learner = build_learner(recipe, stage.target, recipe.seed).eval().to(session.device)
    found = []
    for part in open_parts(stage, recipe, dataset, session.store, session.reporter):
        place = folder / part.name if part.name else folder
        window = part.window(component.window())
        facts = {
            "encoder": digest(encoder),
            "source": part.dataset.fingerprint(actions=False),
            "observed": window.observed,
            "future": window.future,
        }
        total = 0
        for split, episodes in part.dataset.splits.items():
            windows = part.dataset.windows(window, split)
            total += len(windows)
            for camera in part.shown:
                size = part.dataset.spaces.camera(camera)
                assert size is not None  # it is shown
                job = _Job(learner, windows, camera, derived_seed(recipe.seed, "encode", part.name, split, camera))
                more = {"episodes": episodes, "windows": len(windows), "height": size.height, "width": size.width}
                _encode(job, kind, place / split / camera, {**facts, **more}, session)
        found.append(Encoded(part.name, place, total))
    return found


@dataclass(frozen=True)
class _Job:
    learner: Learner
    windows: Windows
    camera: str
    seed: int

    @property
    def blocks(self) -> int:
        return -(-len(self.windows) // BLOCK)

    def runs(self, block: int, device: torch.device) -> list[EncodedRun]:
        """The windows of a block, encoded."""
        first = block * BLOCK
        torch.manual_seed(derived_seed(self.seed, block))
        last = min(first + BLOCK, len(self.windows))
        return [self._encoded(run, device) for run in _runs(self._read(first, last))]

    def _read(self, first: int, last: int) -> Iterator[_Seen]:
        for start in range(first, last, READ):
            batch = self.windows.batch(range(start, min(start + READ, last)))
            for row in range(len(batch)):
                yield _seen(batch, row, self.camera)

    @torch.inference_mode()
    def _encoded(self, run: Sequence[_Seen], device: torch.device) -> EncodedRun:
        numbers: dict[bytes, int] = {}
        different: list[Tensor] = []
        for window in run:
            for key, frame in zip(window.keys, window.frames, strict=True):
                if key not in numbers:
                    numbers[key] = len(different)
                    different.append(frame)
        assert isinstance(self.learner, EncodesFrames)  # it has a `frame_encoder`
        blocks = torch.stack(different).split(FRAMES)
        latents = torch.cat([self.learner.frame_latents(block.to(device)).float().cpu() for block in blocks])
        return EncodedRun(
            latents,
            np.array([[numbers[key] for key in window.keys] for window in run], np.int64),
            np.stack([window.there for window in run]),
            tuple(window.text for window in run),
        )


@dataclass(frozen=True)
class _Seen:
    """A window: its frames ``(T, 3, h, w)``, what tells them apart, which future ones are there, its sentence."""

    frames: Tensor
    keys: tuple[bytes, ...]
    there: np.ndarray
    text: str


def _seen(batch: Batch, row: int, camera: str) -> _Seen:
    seen = [batch.observation.images[camera][row], *([batch.future[camera][row]] if batch.future else [])]
    frames = torch.cat(seen)
    there = np.zeros(0, bool) if batch.future_mask is None else batch.future_mask[row].numpy()
    keys = tuple(hashlib.sha256(frame.contiguous().numpy().tobytes()).digest() for frame in frames)
    return _Seen(frames, keys, there, batch.observation.instructions[row])


def _runs(windows: Iterator[_Seen]) -> Iterator[list[_Seen]]:
    """Consecutive windows that share frames, `LONGEST` at most."""
    run: list[_Seen] = []
    known: set[bytes] = set()
    for window in windows:
        if run and (len(run) == LONGEST or known.isdisjoint(window.keys)):
            yield run
            run, known = [], set()
        run.append(window)
        known.update(window.keys)
    if run:
        yield run


def _encode(job: _Job, component: DatasetComponent, folder: Path, facts: dict[str, Any], session: Session) -> None:
    """Encode the missing blocks of one camera of one split, and put them together when all are there."""
    writer = component.latent_writer(folder)
    locks = folder / ".locks"
    with storage_errors(folder):
        locks.mkdir(parents=True, exist_ok=True)
    missing = [block for block in range(job.blocks) if not writer.present(block)]
    title = f"encode {'/'.join(folder.parts[-3:])}"
    with session.reporter.activity(title, job.blocks, job.blocks - len(missing)) as progress:
        while missing:
            before = len(missing)
            for block in missing:
                try:
                    with locked_file(locks / f"{block:06d}", f"block {block} of {folder}"):
                        if not writer.present(block):
                            writer.add(block, job.runs(block, session.device))
                except BusyError:  # another process makes it
                    continue
                progress.advance(1)
            missing = [block for block in missing if not writer.present(block)]
            if len(missing) == before:
                time.sleep(SECONDS_BETWEEN_LOOKS)
    with locked_file(locks / "all", f"the latents in {folder}", session.reporter.line):
        writer.finish(job.blocks, facts)
