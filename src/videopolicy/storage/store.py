"""Content-addressed results: what was computed once from the same inputs is never computed again.

Everything expensive (datasets, frozen features, trained stages) lies in a folder named by the hash of what
determines it. A folder counts as finished when it holds ``done.json``; that file is written last.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from videopolicy.storage.files import storage_errors, write_json

MARKER = "done.json"


class Store:
    """The folder of all artifacts: ``VPOLICY_HOME``, or ``.vpolicy`` in the current folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(os.environ.get("VPOLICY_HOME") or ".vpolicy").absolute()

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
    def finish(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
        """Mark an artifact as finished and record facts about it."""
        write_json(folder / MARKER, facts)
        return facts
