"""Content-addressed results: what was computed once from the same inputs is never computed again.

Everything expensive (datasets, frozen features, trained stages) lies in a folder named by the hash of what
determines it. A folder counts as finished when it holds ``done.json``; that file is written last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from videopolicy.errors import StorageError
from videopolicy.paths import expanded
from videopolicy.storage.files import storage_errors, write_json
from videopolicy.storage.integrity import MARKER, USES, differences, read_mapping, record

RUNS = "runs"
"""Folder of the store with one note for every run folder: what it needs."""

Recorded = TypeVar("Recorded", bound=BaseModel)


class Store:
    """The folder of all artifacts: ``VPOLICY_HOME``, or ``.vpolicy`` in the current folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or expanded(os.environ.get("VPOLICY_HOME") or ".vpolicy").absolute()

    def place(self, kind: str, key: str) -> Path:
        """Where one artifact lies, or would."""
        return self.root / kind / key

    def folder(self, kind: str, key: str) -> Path:
        """The folder of one artifact, made if it is not there."""
        path = self.place(kind, key)
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    @staticmethod
    def finished(folder: Path) -> dict[str, Any] | None:
        """What was recorded when the artifact was finished, or None when it is not.

        Raises:
            StorageError: It was, and what was recorded cannot be read: its results may be whole, so they are kept.
        """
        return read_mapping(folder / MARKER, _again(folder))

    @staticmethod
    def facts(folder: Path, model: type[Recorded]) -> Recorded | None:
        """The same as a model.

        Raises:
            StorageError: As `finished`, and where it does not hold what the model needs.
        """
        found = Store.finished(folder)
        if found is None:
            return None
        try:
            return model.model_validate(found)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise StorageError(f"{folder / MARKER} is damaged: {reason}.", _again(folder)) from None

    @staticmethod
    def ensure_whole(folder: Path) -> None:
        """Check that the files of a finished artifact are what was written; cheap where none has been touched since.

        Raises:
            StorageError: They are not; the message names them.
        """
        if wrong := differences(folder):
            raise StorageError(
                f"{folder} is damaged: {'; '.join(wrong)}.",
                _again(folder),
            )

    @staticmethod
    def finish(folder: Path, facts: dict[str, Any], hashed: bool = True) -> dict[str, Any]:
        """Mark an artifact as finished and record facts about it.

        Args:
            folder: Where it lies.
            facts: About it.
            hashed: Whether to record what its files hold, so that damage can be found: about a second a gigabyte.
        """
        if hashed:
            record(folder)
        write_json(folder / MARKER, facts)
        return facts

    @staticmethod
    def used(folder: Path) -> None:
        """Note that a finished artifact has been used just now: its age is counted from there."""
        with suppress(OSError):  # gone, or on a disk that can only be read
            (folder / MARKER).touch()

    @staticmethod
    def note_uses(folder: Path, uses: Iterable[Path]) -> None:
        """Note which other artifacts one is made from."""
        write_json(folder / USES, [f"{path.parent.name}/{path.name}" for path in uses])

    def note_run(self, run: Path, recipe: str, needs: Iterable[Path]) -> None:
        """Note what a run needs, so that it is not pruned while the run folder is there.

        Args:
            run: The run folder.
            recipe: Its name.
            needs: Folders or files; those outside the store are left out.
        """
        run = run.resolve()
        inside = (os.path.relpath(path.absolute(), self.root.absolute()) for path in needs)
        kept = sorted({"/".join(Path(path).parts[:2]) for path in inside if not path.startswith(os.pardir)})
        name = hashlib.sha256(str(run).encode()).hexdigest()[:16]
        write_json(self.root / RUNS / f"{name}.json", {"run": str(run), "recipe": recipe, "needs": kept})


def _again(folder: Path) -> str:
    return (
        f"Copy it again from where it is whole, or remove it (rm -r {folder}) and run the same command again: "
        "it is made again."
    )
