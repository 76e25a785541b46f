"""Videos of several datasets, mixed by how often each is seen and not by how large it is.

Every window shows one camera: views are clips of their own, and the model has one. Which part a window is of, which of
its windows and which camera, follows from the seed and the window's number alone. A part's windows are all seen once
before one is seen again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from videopolicy.contracts.dataset import Dataset, DrawnWindows, FieldStatistics, Statistics, Windows
from videopolicy.errors import DataError, listing
from videopolicy.parts.windows import TRAIN
from videopolicy.seeds import Order, StepOrder, derived_seed
from videopolicy.spaces import NO_ACTIONS, Camera, Spaces
from videopolicy.types import Batch, Observation, Window
from videopolicy.views import resized

VIEW = "view"
"""The only camera of a mixture."""
_BLOCK = 4096
"""Windows whose parts are drawn at a time."""


@dataclass(frozen=True)
class OpenPart:
    """A part of a mixture, open.

    Args:
        name: Its name.
        ratio: How often a window is of it.
        dataset: What it holds; more than frames and sentences is not used.
        stride: Steps from one frame of a clip to the next; None: as many as the learner asks for.
        window_stride: Of its windows, one after the other, every n-th is used.
        cameras: How often a window shows which; None: the first always.
        existing: Whether its files existed before anybody asked for them, so that what they hold is part of keys.
    """

    name: str
    ratio: float
    dataset: Dataset
    stride: int | None = None
    window_stride: int = 1
    cameras: Mapping[str, float] | None = None
    existing: bool = True

    @property
    def shown(self) -> dict[str, float]:
        """How often a window shows which camera."""
        return dict(self.cameras) if self.cameras else {self.dataset.spaces.cameras[0].name: 1.0}

    def window(self, asked: Window) -> Window:
        """What is read of it where a learner asks for a window."""
        if self.stride is None:
            return asked
        unit = math.gcd(*asked.observed, *asked.future) or 1
        observed, future = (tuple(o // unit * self.stride for o in each) for each in (asked.observed, asked.future))
        return Window(observed=observed, future=future)


class Mixture(Dataset):
    """Several datasets as one of a single camera, without actions and state.

    Args:
        parts: The datasets.
        size: Height and width to which pictures are brought; None: those of the first part.

    Raises:
        DataError: A part does not have a camera that is to be shown, or some hold latents and others pictures.
    """

    def __init__(self, parts: Sequence[OpenPart], size: tuple[int, int] | None = None) -> None:
        self._parts = tuple(parts)
        for part in self._parts:
            known = [camera.name for camera in part.dataset.spaces.cameras]
            if unknown := [name for name in part.shown if name not in known]:
                raise DataError(
                    f"Part '{part.name}' has no camera {', '.join(unknown)}; it has {', '.join(known)}.",
                    "Correct its `cameras` in the stage's data.",
                )
        self._ensure_alike()
        first = self._parts[0].dataset.spaces.camera(next(iter(self._parts[0].shown)))
        assert first is not None  # it is known
        self._size = size or (first.height, first.width)

    def _ensure_alike(self) -> None:
        """Check that all parts hold pictures, or latents of one encoder."""
        latents = [part.name for part in self._parts if part.dataset.encoder is not None]
        if latents and len(latents) < len(self._parts):
            others = [part.name for part in self._parts if part.name not in latents]
            raise DataError(
                f"Of the mixture, {listing(latents)} hold latents and {listing(others)} pictures.",
                "Encode all parts with `vpolicy data encode`, or none.",
            )
        if len({part.dataset.encoder for part in self._parts} - {None, ""}) > 1:
            raise DataError(f"The parts {listing(latents)} were encoded in different ways.", "Encode them again.")

    @property
    def spaces(self) -> Spaces:
        height, width = self._size
        return Spaces(cameras=(Camera(name=VIEW, height=height, width=width),), actions=NO_ACTIONS)

    @property
    def encoder(self) -> str | None:
        known = {part.dataset.encoder for part in self._parts}
        return next(iter(known - {None, ""}), next(iter(known)))

    @property
    def splits(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in self._parts:
            for split, count in part.dataset.splits.items():
                found[split] = found.get(split, 0) + count
        return found

    @property
    def remarks(self) -> tuple[str, ...]:
        return tuple(f"{part.name}: {text}" for part in self._parts for text in part.dataset.remarks)

    def fingerprint(self, actions: bool = True) -> str:
        mixed = [
            [part.dataset.fingerprint(actions=False), part.ratio, part.stride, part.window_stride, part.shown]
            for part in self._parts
        ]
        return hashlib.sha256(json.dumps([mixed, self._size]).encode()).hexdigest()

    def files(self) -> tuple[Path, ...]:
        return tuple(file for part in self._parts if part.existing for file in part.dataset.files())

    def verify(self) -> None:
        for part in self._parts:
            part.dataset.verify()

    def statistics(self) -> Statistics:
        return Statistics(actions=FieldStatistics([], [], [], []))

    def windows(self, window: Window, split: str = TRAIN) -> MixedWindows:
        """Windows of all parts that have this split; see `MixedWindows`."""
        parts = [part for part in self._parts if part.dataset.splits.get(split)]
        if not parts:
            raise DataError(f"None of the mixture's parts has a split '{split}'.", "Hold some episodes out.")
        return MixedWindows([self._of(part, window, split) for part in parts], [part.ratio for part in parts])

    def held_out(self, window: Window) -> dict[str, Windows]:
        """Of every part those windows that are held out, or those for training where none are, by the part's name."""
        found: dict[str, Windows] = {}
        for part in self._parts:
            others = [split for split, count in part.dataset.splits.items() if split != TRAIN and count]
            found[part.name] = self._of(part, window, others[0] if others else TRAIN)
        return found

    def initial_states(self) -> frozenset[str]:
        return frozenset().union(*(part.dataset.initial_states() for part in self._parts))

    def _of(self, part: OpenPart, window: Window, split: str) -> ViewWindows:
        windows = part.dataset.windows(part.window(window), split)
        if not len(windows):
            raise DataError(f"Part '{part.name}' holds no windows.", "Name data with at least one episode.")
        return ViewWindows(windows, part.window_stride, part.shown, self._size)


class ViewWindows:
    """Windows of one dataset, each as often as it has cameras, of one camera at a time.

    Args:
        windows: The dataset's.
        stride: Every n-th of them is used.
        cameras: Those that are shown, and how often.
        size: Height and width to which they are brought.
    """

    def __init__(self, windows: Windows, stride: int, cameras: Mapping[str, float], size: tuple[int, int]) -> None:
        self._windows, self._stride, self._size = windows, stride, size
        self.count = -(-len(windows) // stride)
        self.cameras, often = list(cameras), np.array(list(cameras.values()))
        self.up_to = np.cumsum(often / often.sum())

    def __len__(self) -> int:
        return self.count * len(self.cameras)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows at these indices: all of the first camera, then all of the second."""
        views, chosen = np.divmod(np.asarray(indices, np.int64), self.count)
        found = self._windows.batch((chosen * self._stride).tolist())
        seen = found.observation
        shown = {
            kind: {VIEW: self._shown(frames, views)} if frames else {}
            for kind, frames in (("images", seen.images), ("future", found.future), ("latents", found.latents))
        }
        return Batch(
            Observation(shown["images"], seen.instructions),
            future=shown["future"],
            future_mask=found.future_mask,
            latents=shown["latents"],
        )

    def order(self, seed: int) -> StepOrder:
        """Which of the windows, of whatever camera, comes when."""
        if isinstance(self._windows, DrawnWindows) and self._stride == 1:
            return self._windows.order(1, seed)
        return Order(self.count, 1, seed)

    def _shown(self, images: Mapping[str, Tensor], views: np.ndarray) -> Tensor:
        rows: list[Tensor] = [torch.empty(0)] * len(views)
        for number in np.unique(views).tolist():
            of = np.flatnonzero(views == number)
            frames = images[self.cameras[number]][torch.from_numpy(of)]
            frames = frames if frames.is_floating_point() else resized(frames, self._size)
            for row, clip in zip(of, frames, strict=True):
                rows[row] = clip
        return torch.stack(rows)


class MixedWindows:
    """Windows of several datasets, one after the other; see `MixedOrder` for what is seen of them.

    Args:
        parts: The windows of every part.
        ratios: How often a window is of it; brought to a sum of 1.
    """

    def __init__(self, parts: Sequence[ViewWindows], ratios: Sequence[float]) -> None:
        self._parts, self._ratios = tuple(parts), np.array(ratios) / math.fsum(ratios)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows at these indices as one batch."""
        wanted = np.asarray(indices, np.int64)
        owner = np.searchsorted(self._ends, wanted, side="right")
        rows: list[Batch | None] = [None] * len(wanted)
        for number in np.unique(owner).tolist():
            of = np.flatnonzero(owner == number)
            begin = int(self._ends[number]) - len(self._parts[number])
            found = self._parts[number].batch((wanted[of] - begin).tolist())
            for place, row in enumerate(of):
                rows[row] = _row(found, place)
        return _joined([row for row in rows if row is not None])

    def order(self, batch_size: int, seed: int) -> MixedOrder:
        """Which of them every step of a stage sees."""
        return MixedOrder(self._parts, self._ratios, batch_size, seed)


class MixedOrder:
    """Draws a part by its ratio for every window, then a camera, then takes the part's next window.

    The windows of a part come in endless epochs, each a permutation of its own (`Order`).

    Args:
        parts: The windows of every part.
        ratios: How often a window is of it; they add up to 1.
        batch_size: Windows a step, over all devices.
        seed: Of the stage.
    """

    def __init__(self, parts: Sequence[ViewWindows], ratios: np.ndarray, batch_size: int, seed: int) -> None:
        self._parts, self._ratios, self._batch_size, self._seed = tuple(parts), ratios, batch_size, seed
        self._orders = [part.order(derived_seed(seed, "part", number)) for number, part in enumerate(parts)]
        self._begins = np.cumsum([0, *(len(part) for part in parts)])
        self._before = [np.zeros(len(parts), np.int64)]
        """Windows of every part before each block; those of later blocks are counted when they are needed."""
        self._block, self._drawn = -1, (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))

    def indices(self, step: int) -> list[int]:
        """The windows of one step."""
        return [self._index(place) for place in range(step * self._batch_size, (step + 1) * self._batch_size)]

    def _index(self, place: int) -> int:
        block, offset = divmod(place, _BLOCK)
        if block != self._block:
            self._block, self._drawn = block, self._of_block(block)
        parts, nth, views = self._drawn
        number = int(parts[offset])
        part = self._parts[number]
        view = min(int(np.searchsorted(part.up_to, views[offset], side="right")), len(part.cameras) - 1)
        window = self._orders[number].indices(int(nth[offset]))[0]
        return int(self._begins[number]) + view * part.count + window

    def _of_block(self, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every window its part, how many of its part come before it, and a number that chooses its camera."""
        while len(self._before) <= block:
            drawn, _ = self._draw(len(self._before) - 1)
            self._before.append(self._before[-1] + np.bincount(drawn, minlength=len(self._parts)))
        parts, views = self._draw(block)
        nth = np.zeros(_BLOCK, np.int64)
        for number in range(len(self._parts)):
            of = np.flatnonzero(parts == number)
            nth[of] = self._before[block][number] + np.arange(len(of))
        return parts, nth, views

    def _draw(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(derived_seed(self._seed, "mixture", block))
        return generator.choice(len(self._parts), _BLOCK, p=self._ratios), generator.random(_BLOCK)


def _row(batch: Batch, place: int) -> Batch:
    """One window of a batch, as a batch."""
    one = slice(place, place + 1)
    return Batch(
        Observation(
            {name: images[one] for name, images in batch.observation.images.items()},
            batch.observation.instructions[one],
        ),
        future={name: frames[one] for name, frames in batch.future.items()},
        future_mask=None if batch.future_mask is None else batch.future_mask[one],
        latents={name: frames[one] for name, frames in batch.latents.items()},
    )


def _joined(rows: Sequence[Batch]) -> Batch:
    """Windows of the same form as one batch."""
    first = rows[0]
    masks = [row.future_mask for row in rows if row.future_mask is not None]
    return Batch(
        Observation(
            {name: torch.cat([row.observation.images[name] for row in rows]) for name in first.observation.images},
            [text for row in rows for text in row.observation.instructions],
        ),
        future={name: torch.cat([row.future[name] for row in rows]) for name in first.future},
        future_mask=torch.cat(masks) if masks else None,
        latents={name: torch.cat([row.latents[name] for row in rows]) for name in first.latents},
    )
