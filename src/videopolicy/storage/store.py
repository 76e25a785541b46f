"""Content-addressed results: what was computed once from the same inputs is never computed again.

Everything expensive (datasets, frozen features, trained stages) lies in a folder named by the hash of what
determines it. A folder counts as finished when it holds ``done.json``; that file is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from videopolicy.paths import expanded
from videopolicy.storage.files import file_digest, storage_errors, write_json

MARKER = "done.json"
HASHES, USES = "hashes.json", "uses.json"
RUNS = "runs"
"""Folder of the store with one note for every run folder: what it needs."""
_PASSING = ("logs", "tensorboard", "wandb")  # what nothing is computed from


class Store:
    """The folder of all artifacts: ``VPOLICY_HOME``, or ``.vpolicy`` in the current folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or expanded(os.environ.get("VPOLICY_HOME") or ".vpolicy").absolute()

    def folder(self, kind: str, key: str) -> Path:
        """The folder of one artifact, made if it is not there."""
        path = self.root / kind / key
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    @staticmethod
    def finished(folder: Path) -> dict[str, Any] | None:
        """What was recorded when the artifact was finished, or None when it is not."""
        try:
            return json.loads((folder / MARKER).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    @staticmethod
    def finish(folder: Path, facts: dict[str, Any], hashed: bool = True) -> dict[str, Any]:
        """Mark an artifact as finished and record facts about it.

        Args:
            folder: Where it lies.
            facts: About it.
            hashed: Whether to record what its files hold, so that damage can be found: about a second a gigabyte.
        """
        if hashed:
            write_json(folder / HASHES, {str(path.relative_to(folder)): file_digest(path) for path in contents(folder)})
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


def contents(folder: Path) -> Iterator[Path]:
    """The files of an artifact that anything is computed from, in order of path."""
    own = (MARKER, HASHES, USES)
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(p.startswith(".") or p in _PASSING for p in parts) and path.name not in own:
            yield path
