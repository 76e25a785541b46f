"""Writes collected episodes: one part file per attempt at once, one file per task at the end."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from videopolicy import DataError, Episode
from videopolicy.parts.collecting import CollectionWriter, attempt_name, ensure_as_declared
from videopolicy.parts.files import written_whole
from vpolicy_hdf5.attributes import mapping
from vpolicy_hdf5.collected import described, verify_part
from vpolicy_hdf5.faults import error_number, readable
from vpolicy_hdf5.layout import MARKER, STATE_KEY, image_key, task_file
from vpolicy_hdf5.libero import attributes, is_libero

_OVERHEAD = 2**20
"""Bytes that a file takes besides its parts, and a bit."""


class HDF5Writer(CollectionWriter):
    """See `CollectionWriter`."""

    marker: ClassVar[str] = MARKER
    suffix: ClassVar[str] = ".hdf5"

    def _verify(self, path: Path) -> None:
        verify_part(path, self.spaces)

    def _assemble(self, chosen: Mapping[str, list[int]]) -> dict[str, Any]:
        made = {task: self._write_task(task, parts) for task, parts in self._successes(chosen).items()}
        return {
            "files": {task: name for task, (name, _) in made.items()},
            "digests": {task: ones for task, (_, ones) in made.items()},
        }

    def _check(self, episode: Episode) -> None:
        ensure_as_declared(episode, self.spaces, "Correct the benchmark.")
        steps = len(episode.actions)
        for name, values in _further(episode).items():
            if len(values) != steps:
                text = f"{attempt_name(episode)} has {len(values)} {name} for {steps} actions."
                raise DataError(text, "Correct the benchmark.")

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

    def _write_task(self, task: str, parts: list[Path]) -> tuple[str, list[str]]:
        """Copy parts into the task's file; returns its name and the digests of its episodes."""
        for part in parts:
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
            recorded_by = facts.get("recorded_by", "vpolicy data collect")
            provenance = {"recorded_by": recorded_by, "frames": "seen before the action of the same index"}
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
    hint = f"Delete {part} and run the same command again: this attempt is then made again."
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
