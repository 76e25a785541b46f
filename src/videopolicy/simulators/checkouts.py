"""Repositories that simulators run from as they are: cloned once and kept, or where the user has them already."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from videopolicy.contracts.benchmark import Checkout, WorkerSpec
from videopolicy.errors import SimulationError, StorageError
from videopolicy.storage.files import locked_file, storage_errors
from videopolicy.storage.store import Store

_SHORT = 12
"""Digits of a commit in names of folders and in messages."""
_SECONDS = 900
"""That cloning may take."""
# A network that lets nothing through must end in an error, and nobody is there to type a password.
_GIT = ("git", "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30")


def source_variable(spec: WorkerSpec) -> str:
    """Name of the environment variable that points to a checkout, for the user and for the worker."""
    return f"VPOLICY_{spec.environment.upper().replace('-', '_')}_SOURCE"


def source_folder(spec: WorkerSpec, root: Path | None = None) -> Path | None:
    """Where the repository of a simulator lies or will lie; None where it needs none."""
    if spec.checkout is None:
        return None
    if given := os.environ.get(source_variable(spec)):
        return Path(given).expanduser().absolute()
    name = spec.checkout.url.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return Store(root).root / "sources" / f"{name}-{spec.checkout.commit[:_SHORT]}"


def to_be_cloned(spec: WorkerSpec, root: Path | None = None) -> str:
    """What would have to be cloned for a simulator; empty where it is there, or nothing is needed.

    Raises:
        SimulationError: The user has named a checkout that is another one.
    """
    folder = source_folder(spec, root)
    if folder is None or spec.checkout is None:
        return ""
    if os.environ.get(source_variable(spec)):
        _ensure_it_is(folder, spec, spec.checkout)
        return ""
    return "" if _finished(folder) else f"{_described(spec.checkout)} has to be cloned."


def ensure_checkout(spec: WorkerSpec, root: Path | None = None, say: Callable[[str], None] = lambda text: None) -> None:
    """Clone the repository of a simulator where it is not there yet.

    Raises:
        SimulationError: It cannot be cloned, or is another one than the simulator needs.
    """
    folder = source_folder(spec, root)
    if folder is None or spec.checkout is None or not to_be_cloned(spec, root):
        return
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(folder.with_name(f".{folder.name}.lock"), f"the repository {folder}", say):
        if not _finished(folder):
            say(f"Cloning {_described(spec.checkout)} into {folder}")
            _clone(folder, spec, spec.checkout)


def digest(folder: Path) -> str:
    """SHA-256 of the names and the content of all files in a folder, but what Python and desktops leave behind."""
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=Path.as_posix):
        name = path.relative_to(folder)
        if path.is_file() and "__pycache__" not in name.parts and path.name != ".DS_Store":
            content.update(f"{name.as_posix()}\0{path.stat().st_size}\0".encode())
            content.update(path.read_bytes())
    return content.hexdigest()


def _finished(folder: Path) -> bool:
    try:
        return Store.finished(folder) is not None
    except StorageError:  # it is cloned again in a minute
        return False


def _clone(folder: Path, spec: WorkerSpec, checkout: Checkout) -> None:
    with storage_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
    variables = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "0"}
    for arguments in (
        ("clone", "--quiet", "--no-checkout", checkout.url, str(folder)),
        ("-C", str(folder), "checkout", "--quiet", "--detach", checkout.commit),
    ):
        try:
            done = subprocess.run(
                [*_GIT, *arguments],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=variables,
                timeout=_SECONDS,
            )
            failure = (done.stderr.strip() or "git failed").splitlines()[-1] if done.returncode else ""
        except FileNotFoundError:
            failure = "git is not installed"
        except subprocess.TimeoutExpired:
            failure = f"it took longer than {_SECONDS} s"
        if failure:
            raise SimulationError(
                f"The simulator of '{spec.environment}' needs {_described(checkout)}, which could not be cloned: "
                f"{failure}",
                _remedy(spec, checkout),
            )
    _ensure_it_is(folder, spec, checkout)
    Store.finish(folder, {"url": checkout.url, "commit": checkout.commit}, hashed=False)


def _ensure_it_is(folder: Path, spec: WorkerSpec, checkout: Checkout) -> None:
    """Compare what lies in a folder with what the simulator needs."""
    if not folder.is_dir():
        what = "does not exist"
    elif absent := [name for name in checkout.digests if not (folder / name).is_dir()]:
        what = f"has no folder {', '.join(f'{name}/' for name in absent)}"
    elif other := [name for name, expected in checkout.digests.items() if digest(folder / name) != expected]:
        head = _head(folder)
        changed = f"{', '.join(f'{name}/' for name in other)} {'differs' if len(other) == 1 else 'differ'}"
        if head == checkout.commit:
            what = f"was changed: {changed} from commit {head[:_SHORT]}"
        else:
            what = f"is another version{f' ({head[:_SHORT]})' if head else ''}: {changed}"
    else:
        return
    raise SimulationError(
        f"The simulator of '{spec.environment}' needs {_described(checkout)}; {folder} {what}.",
        _remedy(spec, checkout),
    )


def _head(folder: Path) -> str:
    """The commit that a folder was checked out at; empty where that cannot be known."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 and (folder / ".git").exists() else ""


def _described(checkout: Checkout) -> str:
    return f"{checkout.url} at commit {checkout.commit[:_SHORT]}"


def _remedy(spec: WorkerSpec, checkout: Checkout) -> str:
    name = checkout.url.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return (
        f"Run where there is a network: git clone {checkout.url} {name} && git -C {name} checkout {checkout.commit}. "
        f"Then set {source_variable(spec)} to that folder, copied here as it is."
    )
