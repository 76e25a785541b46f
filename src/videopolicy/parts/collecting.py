"""The life of a collection of demonstrations, whatever its layout: a part for every attempt, at the end a dataset."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, unquote

import numpy as np

from videopolicy.contracts.dataset import Episode
from videopolicy.errors import DataError, StorageError
from videopolicy.spaces import Spaces
from videopolicy.storage.files import written_whole

PARTS = "parts"
"""Folder of the attempts until the collection is finished."""
_FAILED = ".failed"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempts:
    """What a finished collection says of its attempts.

    Args:
        chosen: Kept attempts by task.
        attempts: All attempts by task, and whether each was a success.
    """

    chosen: dict[str, list[int]]
    attempts: dict[str, dict[int, bool]]

    @classmethod
    def of(cls, marker: Mapping[str, Any]) -> Attempts:
        """From what is in a marker; whatever is no marker raises what Python raises then."""
        return Attempts(
            {str(task): [int(one) for one in ones] for task, ones in marker["chosen"].items()},
            {str(task): {int(n): bool(ok) for n, ok in tries.items()} for task, tries in marker["attempts"].items()},
        )


Marked = TypeVar("Marked", bound=Attempts)


def read_marker(path: Path, read: Callable[[Any], Marked]) -> Marked | None:
    """What was recorded when a collection was finished; None where there is no such file.

    Args:
        path: The file.
        read: Makes it out of the file's JSON.

    Raises:
        DataError: It is damaged.
    """
    if not path.is_file():
        return None
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged: {error!r}.", "Restore the file, or collect the demonstrations again."
        ) from error


class CollectionWriter(ABC):
    """An `EpisodeWriter` for one layout. Killed at any moment, it leaves whole parts, or the finished folder, or both.

    Several processes may add episodes to one folder, each with a writer of its own.

    Args:
        folder: Where the dataset is to lie.
        spaces: Cameras, state and actions of the episodes.
    """

    marker: ClassVar[str]
    """Name of the file that says what was collected. It is written last, and makes the collection a finished one."""
    suffix: ClassVar[str]
    """Of the parts, with its dot."""

    def __init__(self, folder: Path, spaces: Spaces) -> None:
        self.folder, self.spaces = folder, spaces
        self.parts = folder / PARTS
        self._believed: set[Path] = set()
        """Parts that this process has written or has read to their ends."""

    @abstractmethod
    def _check(self, episode: Episode) -> None:
        """Check that a solved episode can be written.

        Raises:
            DataError: It cannot.
        """

    @abstractmethod
    def _write(self, episode: Episode, path: Path) -> None:
        """Write a solved episode to an empty file."""

    @abstractmethod
    def _verify(self, path: Path) -> None:
        """Check that a part holds what was written.

        Raises:
            DataError: It does not.
        """

    @abstractmethod
    def _assemble(self, chosen: Mapping[str, list[int]]) -> dict[str, Any]:
        """Make the dataset out of the parts; what a killed process has left of one is replaced.

        Returns:
            What the marker says besides `Attempts`.
        """

    def _read_marker(self) -> Attempts | None:
        """What the marker says, all of which must be sound; None where there is none.

        Raises:
            DataError: It is damaged.
        """
        return read_marker(self.folder / self.marker, Attempts.of)

    def present(self) -> dict[str, dict[int, bool]]:
        """Attempts whose file a crash has damaged are dropped, and said: they are made again."""
        if (finished := self._finished()) is not None:
            return finished.attempts
        found: dict[str, dict[int, bool]] = {}
        for path in sorted(self.parts.glob("*/*")):
            if path.suffix in (self.suffix, _FAILED) and path.stem.isdigit() and self._is_whole(path):
                found.setdefault(unquote(path.parent.name), {})[int(path.stem)] = path.suffix == self.suffix
        return found

    def add(self, episode: Episode) -> None:
        """See `EpisodeWriter.add`.

        Raises:
            DataError: The episode is none of this layout's, or the collection is finished.
            StorageError: It cannot be written.
        """
        if self._finished() is not None:
            raise DataError(f"The dataset in {self.folder} is finished.", "Collect into another folder.")
        if episode.success:
            self._check(episode)
        final = self._part(episode.task, episode.attempt, self.suffix if episode.success else _FAILED)
        with _storage(self.folder), written_whole(final, shared=True) as file:
            if episode.success:
                self._write(episode, file)
        self._believed.add(final)

    def finish(self, chosen: dict[str, list[int]]) -> Path:
        """See `EpisodeWriter.finish`.

        Raises:
            DataError: It was finished with other episodes, or a chosen one is not there.
            StorageError: It cannot be written.
        """
        with _storage(self.folder):
            if (finished := self._finished()) is not None:
                if finished.chosen != chosen:
                    raise DataError(
                        f"The dataset in {self.folder} is finished with other episodes.", "Collect into another folder."
                    )
            else:
                facts = {"chosen": chosen, "attempts": self.present(), **self._assemble(chosen)}
                text = json.dumps(facts, indent=1)
                with written_whole(self.folder / self.marker) as file:
                    file.write_text(text, encoding="utf-8")
            shutil.rmtree(self.parts, ignore_errors=True)
        return self.folder

    def _part(self, task: str, attempt: int, suffix: str) -> Path:
        return self.parts / quote(task, safe=" ") / f"{attempt:06d}{suffix}"

    def _successes(self, chosen: Mapping[str, list[int]]) -> dict[str, list[Path]]:
        """The parts of chosen attempts by task.

        Raises:
            DataError: There is none for a task, or one is missing.
        """
        found = {task: [self._part(task, attempt, self.suffix) for attempt in ones] for task, ones in chosen.items()}
        for task, parts in found.items():
            if not parts:
                raise DataError(f"There is no episode of task '{task}' to keep.", "Collect at least one.")
            for attempt, part in zip(chosen[task], parts, strict=True):
                if not part.is_file():
                    raise DataError(f"Attempt {attempt} of task '{task}' was not recorded as a success.")
        return found

    def _finished(self) -> Attempts | None:
        """What was recorded when the folder was finished; None before.

        Raises:
            DataError: It cannot be read, and the parts from which it could be finished again are gone.
        """
        try:
            return self._read_marker()
        except DataError as error:
            if not any(self.parts.glob(f"*/*{self.suffix}")):
                raise DataError(error.message, f"Remove {self.folder} and run the same command again.") from error
            _LOG.warning("%s The folder is finished again.", error.message)
            (self.folder / self.marker).unlink()
            return None

    def _is_whole(self, path: Path) -> bool:
        """Whether a part holds what was written; one that does not is removed."""
        if path.suffix == _FAILED or path in self._believed:
            return True
        try:
            self._verify(path)
        except DataError as error:
            _LOG.warning("%s The attempt is made again.", error.message)
            path.unlink()
            return False
        self._believed.add(path)
        return True


_NPZ_DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


def ensure_npz_whole(path: Path) -> None:
    """Check that a part that numpy has written (.npz) holds what was written.

    Raises:
        DataError: It does not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()  # compares checksums
    except _NPZ_DAMAGE as error:
        raise DataError(f"{path} is damaged: {error}.") from error
    if bad is not None:
        raise DataError(f"{path} is damaged: the checksum of '{bad}' is another.")


def said_in_npz(part: Path) -> dict[str, Any]:
    """What the entry ``said`` of such a part holds as JSON; see `read_npz` for errors."""
    return read_npz(part, arrays=False)[1]


def read_npz(part: Path, arrays: bool = True) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of such a part, where they are asked for, and what its entry ``said`` holds as JSON.

    Raises:
        DataError: It is not there, or damaged.
    """
    try:
        with np.load(part, allow_pickle=False) as content:
            columns = {name: content[name] for name in content.files if arrays and name != "said"}
            return columns, dict(json.loads(str(content["said"])))
    except _NPZ_DAMAGE as error:
        raise DataError(
            f"{part} holds no recorded attempt: {error}.", f"Delete {part} and run the same command again."
        ) from error


def attempt_name(episode: Episode) -> str:
    """An episode in a message about it."""
    return f"Attempt {episode.attempt} of task '{episode.task}'"


def ensure_arrays(
    episode: Episode, expected: Mapping[str, tuple[np.ndarray | None, tuple[int, ...]]], hint: str
) -> None:
    """Check what an expert has recorded.

    Args:
        episode: The episode.
        expected: By name, what was recorded and its shape, the steps of the episode first.
        hint: What to do where something is missing or has another shape.

    Raises:
        DataError: It is so, or numbers are not finite.
    """
    for name, (values, shape) in expected.items():
        found = None if values is None else values.shape
        if values is None or found != shape or not len(episode.actions):
            raise DataError(f"{attempt_name(episode)} has {name} of shape {found}, not {shape}.", hint)
        if values.dtype != np.uint8 and not np.isfinite(values).all():
            raise DataError(
                f"{attempt_name(episode)} has {name} that are not finite.", "Correct the benchmark's expert."
            )


def ensure_as_declared(episode: Episode, spaces: Spaces, hint: str) -> None:
    """Check that what was recorded has the actions, the state and the cameras of a benchmark.

    Args:
        episode: The episode.
        spaces: What the benchmark declares.
        hint: See `ensure_arrays`.

    Raises:
        DataError: See `ensure_arrays`.
    """
    steps = len(episode.actions)
    expected: dict[str, tuple[np.ndarray | None, tuple[int, ...]]] = {
        "actions": (episode.actions, (steps, spaces.actions.dim))
    }
    if spaces.state is not None:
        expected["state"] = (episode.state, (steps, spaces.state.dim))
    for camera in spaces.cameras:
        image = (steps, camera.height, camera.width, 3)
        expected[f"camera '{camera.name}'"] = (episode.images.get(camera.name), image)
    ensure_arrays(episode, expected, hint)


@contextmanager
def _storage(folder: Path) -> Iterator[None]:
    """Say plainly when the disk does not take it."""
    try:
        yield
    except OSError as error:
        full = error.errno == errno.ENOSPC or "No space left" in str(error)
        raise StorageError(
            f"Cannot write demonstrations to {folder}: {'the disk is full' if full else error}.",
            "Free some space, then run the same command again: finished episodes are kept."
            if full
            else "Choose a folder that can be written, then run the same command again.",
        ) from error
