"""The folder of a run: where everything in it lies, and how it is read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from videopolicy.errors import StorageError, listing
from videopolicy.paths import read_regular
from videopolicy.storage.files import write_json, write_text
from videopolicy.storage.plain_yaml import LARGEST_FILE, YamlError, read_yaml
from videopolicy.storage.provenance import Provenance, RunIdentity

Model = TypeVar("Model", bound=BaseModel)

_RESTORE = "The file is damaged or of another version: restore it, or move its folder away."


class RunFolder:
    """Paths of a run folder and its typed files.

    Reading gives None for what is missing. What is there and cannot be read, because a disk or another program has
    damaged it or another version has written it, raises a `StorageError` that names the file.

    Args:
        path: The folder, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.identity_file = self.path / "identity.json"
        self.provenance_file = self.path / "provenance.json"
        self.episodes_file = self.path / "episodes.jsonl"
        self.curves_file = self.path / "train.csv"
        self.report_file = self.path / "report.html"
        self.trajectories = self.path / "trajectories"
        self.videos = self.path / "videos"
        self.quality_file = self.videos / "quality.json"
        self.logs = self.path / "logs"

    def trajectory(self, policy: str, task: str, episode: int) -> Path:
        """The executed actions of an episode, ``(steps, A)`` float32."""
        return self.trajectories / policy / f"{task}-{episode}.npy"

    @property
    def exists(self) -> bool:
        """Whether there is a run in the folder."""
        return any(file.exists() for file in (self.recipe_file, self.episodes_file, self.provenance_file))

    def ensure_exists(self) -> None:
        """Check that there is a run in the folder.

        Raises:
            StorageError: There is none; the hint names runs nearby.
        """
        if self.exists:
            return
        parent = self.path.parent if self.path.parent.is_dir() else Path("runs")
        near = [str(recipe.parent) for recipe in parent.glob("*/recipe.yaml")]
        raise StorageError(
            f"{self.path} is no run folder: it has no recipe.yaml."
            if self.path.exists()
            else f"There is no run folder {self.path}.",
            f"Runs here: {listing(near)}." if near else "Make one with `vpolicy run RECIPE`.",
        )

    def identity(self) -> RunIdentity | None:
        """What its episodes have in common."""
        return _read(self.identity_file, RunIdentity)

    def write_identity(self, identity: RunIdentity) -> None:
        """Record what its episodes have in common."""
        write_json(self.identity_file, identity.model_dump(mode="json"))

    def provenance(self) -> Provenance | None:
        """What the run was made of."""
        return _read(self.provenance_file, Provenance)

    def write_provenance(self, provenance: Provenance) -> None:
        """Record what the run was made of."""
        write_json(self.provenance_file, provenance.model_dump(mode="json"))

    def recipe_text(self) -> str:
        """The resolved recipe as written; empty where it is missing."""
        return _text(self.recipe_file) or ""

    def recipe(self) -> dict[str, Any]:
        """The resolved recipe as plain data; empty where it is missing."""
        return parse_recipe(self.recipe_text(), self.recipe_file)

    def write_recipe(self, recipe: dict[str, Any]) -> None:
        """Record the resolved recipe, from plain data."""
        write_text(self.recipe_file, yaml.safe_dump(recipe, sort_keys=False, width=100))


def parse_recipe(text: str, path: Path) -> dict[str, Any]:
    """The text of a resolved recipe as plain data.

    Args:
        text: The text.
        path: Where it is from, for the message.

    Raises:
        StorageError: It is no YAML or no mapping.
    """
    try:
        found = read_yaml(text, str(path))[0] or {}
    except YamlError as error:
        raise StorageError(error.at(str(path)), f"{error.hint} If the file is damaged: restore it.") from None
    if not isinstance(found, dict):
        raise _damaged(path, "it holds no mapping")
    return found


def _text(path: Path) -> str | None:
    try:
        return read_regular(path, LARGEST_FILE, StorageError, _RESTORE).decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from None


def _read(path: Path, model: type[Model]) -> Model | None:
    text = _text(path)
    if text is None:
        return None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _damaged(path, f"{where}: {first['msg']}" if where else first["msg"]) from None


def _damaged(path: Path, reason: str) -> StorageError:
    return StorageError(f"{path}: {reason}", _RESTORE)
