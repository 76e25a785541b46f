"""What a stage goes on from after a kill: used only where it is whole, and removed when the stage is finished."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from videopolicy.console.progress import Reporter
from videopolicy.storage.files import write_text
from videopolicy.storage.integrity import CHECKPOINT

_NEEDED = frozenset({"state_dict", "optimizer_states", "global_step", "batches_seen", "spent"})
_BEGUN = ".begun"
_TORCHRUN = "TORCHELASTIC_RUN_ID"
_LAUNCH = (_TORCHRUN, "SLURM_JOB_ID", "SLURM_STEP_ID")


def drop_damaged_checkpoint(folder: Path, reporter: Reporter) -> None:
    """Remove a stage's checkpoint where it is not what was written, so that the stage starts over.

    Its checksums are compared, which torch itself does not do: about a second a gigabyte, once for every start.

    Args:
        folder: Of the stage, which this process holds.
        reporter: Shows what is wrong.
    """
    path = folder / CHECKPOINT
    if not path.exists() or not (reason := _damage(path)):
        return
    reporter.line(f"{path} is damaged: {reason}; the stage starts over")
    path.unlink()
    shutil.rmtree(folder / "curves", ignore_errors=True)  # they would be put together with those of the new beginning


def drop_checkpoint(folder: Path) -> None:
    """Remove what a finished stage went on from: it is several times as large as the weights."""
    with suppress(OSError):  # a disk that can only be read
        (folder / CHECKPOINT).unlink(missing_ok=True)


def _damage(path: Path) -> str:
    """Why a checkpoint cannot be used; empty for one that can."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (bad := archive.testzip()) is not None:
                return f"the checksum of '{bad}' is another"
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    except Exception as error:  # what torch's reader raises for nonsense is not documented
        return f"{type(error).__name__}: {error}".splitlines()[0]
    missing = sorted(_NEEDED - content.keys()) if isinstance(content, dict) else sorted(_NEEDED)
    return f"it holds no {', '.join(missing)}" if missing else ""


@contextmanager
def begun(folder: Path) -> Iterator[None]:
    """Say to the other processes of this launch that the first one trains the stage now, and that they can join."""
    write_text(folder / _BEGUN, _launch())
    try:
        yield
    finally:
        (folder / _BEGUN).unlink(missing_ok=True)


def can_be_joined(folder: Path) -> bool | None:
    """True when the first process of this launch trains the stage; None before."""
    try:
        said = (folder / _BEGUN).read_text(encoding="utf-8")
    except OSError:
        return None
    return True if said == _launch() else None


def _launch() -> str:
    """Identifies what started several processes together.

    Processes that Lightning starts inherit all of this from the first one. They are given an address too, which it does
    not know before; where torchrun has started all of them, all know it.
    """
    names = (*_LAUNCH, "MASTER_ADDR", "MASTER_PORT") if _TORCHRUN in os.environ else _LAUNCH
    return " ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
