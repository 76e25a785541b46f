"""Writes collected episodes: one part file per attempt at once, one file per task at the end."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h5py
import numpy as np

from videopolicy import DataError, Episode, Spaces, StorageError
from videopolicy.parts.files import written_whole
from vpolicy_hdf5.attributes import mapping
from vpolicy_hdf5.collected import described, verify_part
from vpolicy_hdf5.faults import error_number, readable
from vpolicy_hdf5.layout import MARKER, PARTS, STATE_KEY, file_name, image_key, task_file
from vpolicy_hdf5.libero import attributes, is_libero

_FAILED = ".failed"
_LOG = logging.getLogger(__name__)
_OVERHEAD = 2**20
"""Bytes that a file takes besides its parts, and a bit."""


class HDF5Writer:
    """Killed at any moment, it leaves whole part files, or the finished folder, or both.

    Several processes may add episodes to one folder, each with a writer of its own.

    Args:
        folder: Where the dataset is to lie.
        spaces: Cameras, state and actions of the episodes.
    """

    def __init__(self, folder: Path, spaces: Spaces) -> None:
        self.folder = folder
        self.spaces = spaces
        self.parts = folder / PARTS
        self._believed: set[Path] = set()

    def present(self) -> dict[str, dict[int, bool]]:
        """Attempts whose file a crash has damaged are dropped, and said: they are made again."""
        if (finished := self._finished()) is not None:
            return {task: {int(n): bool(ok) for n, ok in tries.items()} for task, tries in finished["attempts"].items()}
        found: dict[str, dict[int, bool]] = {}
        for path in sorted(self.parts.glob("*/*")):
            if path.suffix in (".hdf5", _FAILED) and path.stem.isdigit() and self._is_whole(path):
                found.setdefault(unquote(path.parent.name), {})[int(path.stem)] = path.suffix == ".hdf5"
        return found

    def _finished(self) -> dict[str, Any] | None:
        """What was recorded when the folder was finished; None before.

        Raises:
            DataError: It cannot be read, and the parts from which it could be finished again are gone.
        """
        marker = self.folder / MARKER
        if not marker.is_file():
            return None
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
            if not all(isinstance(found[name], dict) for name in ("attempts", "chosen")):
                raise ValueError("it lists no attempts")
            return found
        except (OSError, ValueError, KeyError, TypeError) as error:
            if not any(self.parts.glob("*/*.hdf5")):
                raise DataError(
                    f"{marker} is damaged: {error}.", f"Remove {self.folder} and run the same command again."
                ) from error
            _LOG.warning("%s is damaged: %s; the folder is finished again", marker, error)
            marker.unlink()
            return None

    def _is_whole(self, path: Path) -> bool:
        """Whether a part holds what was written; one that does not is removed. What this process wrote is believed."""
        if path.suffix == _FAILED or path in self._believed:
            return True
        try:
            verify_part(path, self.spaces)
        except DataError as error:
            _LOG.warning("%s The attempt is made again.", error.message)
            path.unlink()
            return False
        self._believed.add(path)
        return True

    def add(self, episode: Episode) -> None:
        if self._finished() is not None:
            raise DataError(f"The dataset in {self.folder} is finished.", "Collect into another folder.")
        if episode.success:
            self._check(episode)
        folder = self.parts / file_name(episode.task)
        final = folder / f"{episode.attempt:06d}{'.hdf5' if episode.success else _FAILED}"
        with _storage(self.folder), written_whole(final, shared=True) as file:
            if episode.success:
                self._write(episode, file)
        self._believed.add(final)

    def finish(self, chosen: dict[str, list[int]]) -> Path:
        with _storage(self.folder):
            if (finished := self._finished()) is not None:
                if finished["chosen"] != chosen:
                    raise DataError(
                        f"The dataset in {self.folder} is finished with other episodes.", "Collect into another folder."
                    )
            else:
                attempts = self.present()
                made = {task: self._assemble(task, numbers) for task, numbers in chosen.items()}
                files = {task: name for task, (name, _) in made.items()}
                digests = {task: ones for task, (_, ones) in made.items()}
                facts = {"chosen": chosen, "attempts": attempts, "files": files, "digests": digests}
                text = json.dumps(facts, indent=1)
                with written_whole(self.folder / MARKER) as file:
                    file.write_text(text, encoding="utf-8")
            shutil.rmtree(self.parts, ignore_errors=True)
        return self.folder

    def _check(self, episode: Episode) -> None:
        where = f"Attempt {episode.attempt} of task '{episode.task}'"
        steps = len(episode.actions)
        expected: dict[str, tuple[np.ndarray | None, tuple[int, ...]]] = {
            "actions": (episode.actions, (steps, self.spaces.actions.dim))
        }
        if self.spaces.state is not None:
            expected["state"] = (episode.state, (steps, self.spaces.state.dim))
        for camera in self.spaces.cameras:
            image = (steps, camera.height, camera.width, 3)
            expected[f"camera '{camera.name}'"] = (episode.images.get(camera.name), image)
        for name, (values, shape) in expected.items():
            found = None if values is None else values.shape
            if found != shape or not steps:
                raise DataError(f"{where} has {name} of shape {found}, not {shape}.", "Correct the benchmark.")
            if values is not None and values.dtype != np.uint8 and not np.isfinite(values).all():
                raise DataError(f"{where} has {name} that are not finite.", "Correct the benchmark's expert.")
        for name, values in _further(episode).items():
            if len(values) != steps:
                raise DataError(f"{where} has {len(values)} {name} for {steps} actions.", "Correct the benchmark.")

    def _write(self, episode: Episode, path: Path) -> None:
        steps, libero = len(episode.actions), is_libero(episode.facts)
        content = hashlib.sha256(episode.instruction.encode())
        further = _further(episode)
        # Made in memory: where HDF5 cannot write its file it at times ends the whole process.
        with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
            demo = file.create_group("demo")
            arrays = {"actions": np.asarray(episode.actions, np.float32)}
            if self.spaces.state is not None:
                arrays[f"obs/{STATE_KEY}"] = np.asarray(episode.state, np.float32)
            for camera in self.spaces.cameras:
                images = np.asarray(episode.images[camera.name], np.uint8)
                key = f"obs/{image_key(camera.name, libero)}"
                arrays[key] = np.ascontiguousarray(images[:, ::-1] if libero else images)
            if taken := arrays.keys() & further.keys():
                raise DataError(f"The array '{min(taken)}' has the name of a camera's images.", "Name it otherwise.")
            for key, values in {**arrays, **further}.items():
                content.update(key.encode() + values.tobytes())
                # One frame a chunk, so that a batch decompresses the frames that it needs and no others.
                packed = {"chunks": (1, *values.shape[1:]), "compression": "gzip", "compression_opts": 1}
                demo.create_dataset(key, data=values, **(packed if values.ndim == 4 else {}))
            # robomimic's own reader asks for these two.
            last = np.arange(steps) == steps - 1
            demo["dones"] = last.astype(np.uint8 if libero else np.bool_)
            demo["rewards"] = last.astype(np.uint8 if libero else np.float32)
            demo.attrs["num_samples"] = steps
            demo.attrs["ep_meta"] = json.dumps({"lang": episode.instruction})
            if further:
                demo.attrs["further"] = json.dumps(list(further))
            if episode.states is not None:
                demo.attrs["init_state"] = episode.states[0]
            facts = dict(episode.facts)
            if "model_file" in facts:  # robomimic's and LIBERO's name, and long
                demo.attrs["model_file"] = str(facts.pop("model_file"))
            if facts:
                demo.attrs["facts"] = json.dumps(facts)
            for text in described(demo):
                content.update(text.encode())
            demo.attrs["digest"] = content.hexdigest()
            demo.attrs["initial_state"] = episode.initial_state
            demo.attrs["attempt"] = episode.attempt
            demo.attrs["success"] = bool(episode.success)
            file.flush()
            image = file.id.get_file_image()
        path.write_bytes(image)

    def _assemble(self, task: str, attempts: list[int]) -> tuple[str, list[str]]:
        """Copy parts into the task's file; returns its name and the digests of its episodes."""
        if not attempts:
            raise DataError(f"There is no episode of task '{task}' to keep.", "Collect at least one.")
        parts = [self.parts / file_name(task) / f"{attempt:06d}.hdf5" for attempt in attempts]
        for attempt, part in zip(attempts, parts, strict=True):
            if not part.is_file():
                raise DataError(f"Attempt {attempt} of task '{task}' was not recorded as a success.")
            _ensure_sound(part)
        sentence, facts = _described_in(parts[0])
        final = self.folder / task_file(task, is_libero(facts))
        digests = []
        with written_whole(final) as whole, _numbered(final), _room(self.folder, parts), h5py.File(whole, "w") as file:
            data = file.create_group("data")
            for number, part in enumerate(parts):
                with h5py.File(part) as source:
                    source.copy("demo", data, name=f"demo_{number}")
                digests.append(str(data[f"demo_{number}"].attrs["digest"]))
            data.attrs["total"] = sum(int(demo.attrs["num_samples"]) for demo in data.values())
            data.attrs["env_args"] = json.dumps({"env_name": task, "type": 2, "env_kwargs": {}})
            data.attrs["task"] = task
            data.attrs["spaces"] = self.spaces.model_dump_json()
            if is_libero(facts):
                for name, value in attributes(facts, sentence, self.spaces, len(parts)).items():
                    data.attrs[name] = value
            provenance = {"recorded_by": "vpolicy data collect", "frames": "seen before the action of the same index"}
            data.attrs["provenance"] = json.dumps({"expert": facts.get("expert", ""), "human": False, **provenance})
        return final.name, digests


def _further(episode: Episode) -> dict[str, np.ndarray]:
    """What is recorded besides actions, state and images, by key."""
    states = {} if episode.states is None else {"states": np.ascontiguousarray(episode.states, np.float64)}
    return {**states, **{key: np.ascontiguousarray(episode.arrays[key]) for key in sorted(episode.arrays)}}


def _described_in(part: Path) -> tuple[str, dict[str, Any]]:
    """Sentence and facts of a recorded attempt."""
    with h5py.File(part) as file:
        demo = file["demo"]
        where = str(part)
        return str(mapping(demo.attrs, "ep_meta", where).get("lang", "")), mapping(demo.attrs, "facts", where)


def _ensure_sound(part: Path) -> None:
    """Check one recorded attempt, which somebody may have damaged since it was written."""
    hint = f"Delete {part} and run the same command again: this attempt is then made anew."
    with readable(part, remedy=hint), h5py.File(part) as file:
        if "demo" not in file or "digest" not in file["demo"].attrs:
            raise DataError(f"{part} holds no recorded attempt.", hint)


@contextmanager
def _room(folder: Path, parts: list[Path]) -> Iterator[None]:
    """Check that the disk has room for all parts once more: where HDF5 runs out of it, the process may end."""
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, sum(part.stat().st_size for part in parts) + _OVERHEAD)
    yield


@contextmanager
def _numbered(path: Path) -> Iterator[None]:
    """Give errors of HDF5 the operating system's number, by which everybody else knows a full disk."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = error_number(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


@contextmanager
def _storage(folder: Path) -> Iterator[None]:
    """Say plainly when the disk refuses."""
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
