"""Stretches of the recordings that have a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from videopolicy import DataError, listing
from videopolicy.parts.sentences import read_sentence
from vpolicy_calvin.frames.pickled import read_pickled

FILE = "auto_lang_ann.npy"
_LONGEST = 100_000
"""Frames of a segment above which its numbers are damaged: the longest that were published have 65."""


@dataclass(frozen=True)
class Segment:
    """A stretch of consecutive frames in which one task is done.

    Args:
        task: Which.
        sentence: How somebody has put it.
        first, last: Numbers of its frames, both included.
        changed: How the sentence was made from what is stored; empty where it is stored as a sentence.
    """

    task: str
    sentence: str
    first: int
    last: int
    changed: str = field(default="", repr=False)  # fingerprints hold what is printed of segments

    @property
    def steps(self) -> int:
        return self.last - self.first + 1

    @property
    def place(self) -> str:
        """Where it lies in the recordings."""
        return f"{self.first}-{self.last}"


def has_annotations(split: Path, folder: str) -> bool:
    """Whether a split has annotations in a folder or, as in early versions of the data set, beside the frames."""
    return any(path.is_file() for path in (split / folder / FILE, split / FILE))


def annotation_file(split: Path, folder: str) -> Path:
    """The file of annotations of a split, which early versions of the data set have beside the frames.

    Raises:
        DataError: There is none; the message names the folders that have one.
    """
    if not split.is_dir():
        raise DataError(
            f"There is no folder {split}.",
            "Name the folder that holds `training` and `validation`, such as task_ABC_D, in `path`.",
        )
    for path in (split / folder / FILE, split / FILE):
        if path.is_file():
            return path
    others = sorted(path.parent.name for path in split.glob(f"*/{FILE}"))
    raise DataError(
        f"{split} has no annotations: neither {folder}/{FILE} nor {FILE} is there.",
        f"Set `annotations` in the recipe's data section to one of {listing(others)}."
        if others
        else "Download the annotations too, or name in `path` another folder that holds `training` and `validation`.",
    )


def read_segments(path: Path) -> list[Segment]:
    """All segments of a file of annotations, in its order.

    Raises:
        DataError: Naming the file and the entry of what is wrong.
    """
    content = read_pickled(path)
    try:
        sentences, tasks = content["language"]["ann"], content["language"]["task"]
        spans = content["info"]["indx"]
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{path} lacks {error}: annotations hold language/ann, language/task and info/indx.",
            "Download the annotations again.",
        ) from None
    if not len(sentences) == len(tasks) == len(spans) > 0:
        raise DataError(
            f"{path} has {len(sentences)} sentences, {len(tasks)} tasks and {len(spans)} stretches of frames.",
            "Download the annotations again.",
        )
    return [_segment(path, number, *row) for number, row in enumerate(zip(tasks, sentences, spans, strict=True))]


def _segment(path: Path, number: int, task: object, sentence: object, span: Sequence[int]) -> Segment:
    said = read_sentence(sentence, f"{path}, entry {number}")
    try:
        first, last = (int(frame) for frame in np.asarray(span).ravel() if frame == int(frame))
    except (TypeError, ValueError):
        first, last = 0, -1
    if not (said.text and isinstance(task, str) and 0 <= first <= last < first + _LONGEST):
        raise DataError(
            f"{path}, entry {number}: task {task!r}, sentence {sentence!r}, frames {span!r} is no annotation.",
            "Download the annotations again.",
        )
    return Segment(str(task), said.text, first, last, said.changed)
