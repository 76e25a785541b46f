"""Episodes in folders: pictures as PNG files, actions and state as CSV."""

import csv
import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from videopolicy import (
    ActionSpace,
    Camera,
    DataError,
    Dataset,
    DatasetComponent,
    DeclaredSpaces,
    Spaces,
    StateSpace,
    Statistics,
)
from videopolicy.parts.files import ensure_data
from videopolicy.parts.windows import TRAIN, VALIDATION, EpisodeWindows, field_statistics, held_out, require_split


class PngFrames:
    """Frames of all episodes of a split, one episode after the other; decoded when a batch wants them."""

    def __init__(self, files):
        self.files = files  # per camera one path a step

    def take(self, camera, indices):
        import torch
        from PIL import Image

        pictures = [np.asarray(Image.open(self.files[camera][step]).convert("RGB")) for step in indices]
        return torch.from_numpy(np.stack(pictures)).movedim(-1, 1)  # (K, 3, height, width) bytes


class PngEpisodes(Dataset):
    """Numbers are read and checked at once, pictures when a batch wants them."""

    def __init__(self, component):
        ensure_data(component.path)
        self.actions, self.state, self.cameras = component.actions.names, component.state, component.cameras
        self.folders = sorted(folder for folder in component.path.iterdir() if folder.is_dir())
        if not self.folders:
            raise DataError(f"{component.path} holds no episode.", "Name the folder of the episodes' folders.")
        self.read = [self.episode(folder) for folder in self.folders]
        first = PngFrames({name: self.read[0][1][name] for name in self.cameras})
        sizes = {name: first.take(name, [0]).shape[2:] for name in self.cameras}
        self._spaces = Spaces(
            cameras=tuple(Camera(name=name, height=size[0], width=size[1]) for name, size in sizes.items()),
            actions=component.actions,
            state=StateSpace(names=self.state),
        )
        held = held_out([("", folder.name) for folder in self.folders], component.validation)
        self._split = {split: [n for n, out in enumerate(held) if out == (split != TRAIN)] for split in SPLITS}

    def episode(self, folder):
        """Numbers ``(n, A + S)``, files of n frames by camera, and the sentence."""
        with (folder / "log.csv").open(encoding="utf-8") as file:
            rows, names = list(csv.DictReader(file)), (*self.actions, *self.state)
        try:
            numbers = np.array([[float(row[name]) for name in names] for row in rows], np.float32)
        except (KeyError, ValueError) as error:
            raise DataError(f"{folder}/log.csv: {error!r}.", "Write a number for every action and state.") from None
        frames = {name: sorted((folder / name).glob("*.png")) for name in self.cameras}
        for name, files in frames.items():
            if len(files) != len(rows) or not files:
                found = f"{len(files)} pictures of '{name}' and {len(rows)} rows"
                raise DataError(f"{folder} has {found}.", "Record it again.")
        return numbers, frames, (folder / "instruction.txt").read_text(encoding="utf-8").strip()

    @property
    def spaces(self):
        return self._spaces

    @property
    def splits(self):
        return {split: len(chosen) for split, chosen in self._split.items()}

    def fingerprint(self, actions=True):
        return hashlib.sha256(repr((self._split, self._spaces)).encode()).hexdigest()

    def files(self):  # their content is part of all keys, too
        return [file for folder in self.folders for file in sorted(folder.rglob("*")) if file.is_file()]

    def statistics(self):
        numbers, end = np.concatenate([self.read[n][0] for n in self._split[TRAIN]]), len(self.actions)
        return Statistics(field_statistics(numbers[:, :end]), field_statistics(numbers[:, end:]))

    def windows(self, window, split=TRAIN):
        require_split(split, self._split, "Raise `validation`.")
        numbers, frames, sentences = zip(*(self.read[n] for n in self._split[split]), strict=True)
        files = {name: [file for one in frames for file in one[name]] for name in self.cameras}
        end = len(self.actions)
        return EpisodeWindows(
            window,
            PngFrames(files),
            self.cameras,
            sentences,
            actions=[one[:, :end] for one in numbers],
            state=[one[:, end:] for one in numbers],
        )

    def initial_states(self):
        return frozenset()  # of recordings nobody knows the simulator's state


SPLITS = (TRAIN, VALIDATION)


class PngData(DatasetComponent):
    """Folders of PNG files and a CSV file each.

    Args:
        path: The folder of the episodes' folders.
        cameras: Names of the folders of pictures.
        actions: What the action columns of ``log.csv`` mean; their names are the columns'.
        state: Names of the state columns.
        validation: Fraction of the episodes that is held out.
    """

    type: Literal["png-episodes"] = "png-episodes"
    path: Path
    cameras: tuple[str, ...]
    actions: ActionSpace
    state: tuple[str, ...]
    validation: float = Field(0.1, ge=0, lt=1)

    def declared(self):
        return DeclaredSpaces(cameras=self.cameras, actions=self.actions, state=StateSpace(names=self.state))

    def build(self, folder):
        return PngEpisodes(self)
