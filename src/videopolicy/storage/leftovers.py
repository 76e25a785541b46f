"""What lies about and nothing needs any more: besides whole artifacts, which `inventory` lists."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from videopolicy.storage.integrity import CHECKPOINT, MARKER
from videopolicy.storage.store import Store
from videopolicy.storage.temporary import left_behind

_DAY = 86400.0
_DAYS_IN_A_QUEUE = 30.0
"""How long a job of Slurm may wait for its turn: what it needs is left alone for so long."""


@dataclass(frozen=True)
class Leftover:
    """Files and folders of one kind.

    Args:
        what: They are, in a few words.
        paths: Where they lie.
        bytes: Size of all of them.
    """

    what: str
    paths: tuple[Path, ...]
    bytes: int

    def remove(self) -> None:
        """Remove them; what cannot be removed is left."""
        for path in self.paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink(missing_ok=True)


def leftovers(store: Store, days: float) -> list[Leftover]:
    """What is left over, by kind; kinds of which there is nothing are left out.

    Args:
        store: The store.
        days: Logs and jobs that were written to within so many days are no leftovers.
    """
    root = store.root
    checkpoints = (path for path in root.glob(f"stages/*/{CHECKPOINT}") if path.with_name(MARKER).is_file())
    kinds: dict[str, Iterable[Path]] = {
        "checkpoints of finished stages": checkpoints,
        "logs of units": _older(root / "logs", days),
        "files of Slurm's jobs": _older(root / "slurm", max(days, _DAYS_IN_A_QUEUE)),
        "temporary folders of processes that are gone": left_behind(),
    }
    found = ((what, tuple(sorted(paths))) for what, paths in kinds.items())
    return [Leftover(what, paths, sum(map(_size, paths))) for what, paths in found if paths]


def _older(folder: Path, days: float) -> Iterator[Path]:
    limit = time.time() - days * _DAY
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mtime <= limit:
            yield path


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.lstat().st_size for one in files if one.is_file())
