"""Episodes of an open dataset, written again in the layout of another dataset type."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import numpy as np

from videopolicy.components.kinds import DatasetComponent
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Dataset, Episode
from videopolicy.errors import DataError
from videopolicy.parts.collecting import PARTS
from videopolicy.storage.files import storage_errors, write_json
from videopolicy.types import Batch, Window

BLOCK = 64
"""Steps that are read at a time."""
LONGEST_NAME = 150
"""Bytes of a task's name, which becomes that of a file."""
_SOURCE = "source.json"
"""Says in the folder of the parts what is being exported."""


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Args:
        folder: Where it lies.
        episodes: By split.
        steps: Of all episodes.
    """

    folder: Path
    episodes: dict[str, int]
    steps: int


def export(
    dataset: Dataset, kind: DatasetComponent, folder: Path, facts: Mapping[str, str], reporter: Reporter
) -> Exported:
    """Write all episodes of a dataset, or go on with it: those that are written are not written again.

    Args:
        dataset: Open, with a window for every step of every episode.
        kind: A dataset type that can be written, of whatever path.
        folder: Where it is to lie; empty, or an export of the same data that was cut off.
        facts: What is known of where the episodes come from.
        reporter: Shows progress.

    Raises:
        DataError: The folder holds something else, or the data have no actions, or windows leave out steps.
        StorageError: It cannot be written.
    """
    if not dataset.spaces.actions.dim or dataset.encoder is not None:
        raise DataError(
            "These data have no actions, or latents in place of pictures; episodes with both are exported.",
            "Name data of demonstrations in the recipe's data section.",
        )
    _ensure_ours(folder, {"type": kind.type, "content": dataset.fingerprint()})
    writer = kind.writer(folder, dataset.spaces)
    there = writer.present()
    chosen: dict[str, list[int]] = {}
    counts: Counter[str] = Counter()
    steps = 0
    with reporter.activity(f"export to {folder}", sum(dataset.splits.values())) as progress:
        for split in dataset.splits:
            for episode in _episodes(dataset, split):
                numbers = chosen.setdefault(episode.task, [])
                episode.attempt, episode.facts = len(numbers), {**facts, "split": split}
                if not there.get(episode.task, {}).get(episode.attempt):
                    writer.add(episode)
                numbers.append(episode.attempt)
                counts[split] += 1
                steps += len(episode.actions)
                progress.advance(1)
    return Exported(writer.finish(chosen), dict(counts), steps)


def _ensure_ours(folder: Path, source: Mapping[str, str]) -> None:
    """Check that nothing is in the folder but what an export of the same data has left there, and mark it."""
    place = folder / PARTS / _SOURCE
    if folder.is_dir() and any(folder.iterdir()):
        try:
            same = json.loads(place.read_bytes()) == source
        except (OSError, ValueError):
            same = False
        if not same:
            raise DataError(
                f"{folder} is not empty, and what is there is no export of these data that was cut off.",
                f"Choose another folder, or remove it (rm -r {folder}).",
            )
    elif folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file.", "Choose a folder.")
    with storage_errors(folder):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, dict(source))


def _episodes(dataset: Dataset, split: str) -> Iterator[Episode]:
    """All episodes of a split, put together from windows of two steps; a task is called by its sentence.

    Raises:
        DataError: Windows leave out steps, or actions are not to be seen.
    """
    windows = dataset.windows(Window(future=(1,), horizon=2), split)
    begun: list[_Step] = []
    for start in range(0, len(windows), BLOCK):
        batch = windows.batch(range(start, min(start + BLOCK, len(windows))))
        for row in range(len(batch)):
            step = _Step.of(batch, row)
            if begun and (not np.array_equal(begun[-1].following, step.action) or begun[-1].text != step.text):
                break
            begun.append(step)
            if step.last:
                yield _joined(begun)
                begun = []
        else:
            continue
        break
    if begun:
        raise DataError(
            f"The windows of split '{split}' leave out steps, so that no whole episodes can be exported.",
            "Leave out the options of the data section that do so, such as `window_stride` and `steps_ahead`.",
        )


@dataclass(frozen=True)
class _Step:
    images: dict[str, np.ndarray]
    state: np.ndarray | None
    action: np.ndarray
    following: np.ndarray
    text: str
    last: bool

    @classmethod
    def of(cls, batch: Batch, row: int) -> _Step:
        assert batch.actions is not None and batch.future_mask is not None  # they were asked for
        seen, actions = batch.observation, batch.actions[row].numpy()
        if np.isnan(actions[0]).any():
            raise DataError(
                "The actions of some episodes are not to be seen, so these cannot be exported.",
                "Leave out `actionless_tasks` in the data section.",
            )
        return cls(
            images={name: one[row, 0].permute(1, 2, 0).numpy() for name, one in seen.images.items()},
            state=None if seen.state is None else seen.state[row, 0].numpy(),
            action=actions[0],
            following=actions[1],
            text=seen.instructions[row],
            last=not bool(batch.future_mask[row, 0]),
        )


def _joined(steps: list[_Step]) -> Episode:
    first = steps[0]
    return Episode(
        task=_name(first.text),
        instruction=first.text,
        images={name: np.stack([step.images[name] for step in steps]) for name in first.images},
        actions=np.stack([step.action for step in steps]),
        state=None if first.state is None else np.stack([step.state for step in steps if step.state is not None]),
        initial_state="",
        success=True,
        attempt=0,
    )


def _name(text: str) -> str:
    """A name for a task that a file can have."""
    if len(quote(text, safe=" ")) <= LONGEST_NAME:
        return text
    return f"{quote(text, safe=' ')[: LONGEST_NAME // 2]} {sha256(text.encode()).hexdigest()[:16]}".replace("%", "_")
