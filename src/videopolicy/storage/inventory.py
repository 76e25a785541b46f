"""What lies in a store: which artifacts, for whom, how large, whether undamaged, and what nobody needs."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopolicy.errors import BusyError, StorageError
from videopolicy.storage.files import locked, locked_file, storage_errors
from videopolicy.storage.integrity import MARKER, USES, differences, read_mapping, recorded
from videopolicy.storage.provenance import Provenance
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import RUNS, Store

KINDS = ("stages", "features", "datasets", "environments")
DAY = 86400.0


@dataclass(frozen=True)
class Artifact:
    """One folder of the store.

    Args:
        kind: One of `KINDS`.
        key: Its name.
        folder: Where it lies.
        facts: What was recorded when it was finished; None when it is not.
        bytes: Size of its files.
        changed: When it was finished or last used, or when an unfinished one last changed; seconds since the epoch.
        users: What needs it: names of runs with their folders, benchmarks.
        damage: What is wrong with the record of its being finished; empty for nothing.
    """

    kind: str
    key: str
    folder: Path
    facts: Mapping[str, Any] | None
    bytes: int
    changed: float
    users: tuple[str, ...] = ()
    damage: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.key}"

    @property
    def what(self) -> str:
        """What it is, in a few words."""
        if self.damage:
            return f"its {MARKER} is damaged"
        if self.facts is None:
            return "unfinished"
        try:
            return _described(self.kind, self.facts)
        except (KeyError, TypeError, AttributeError):
            return "finished by another version"


def _described(kind: str, facts: Mapping[str, Any]) -> str:
    if kind == "stages":
        return f"{facts['name']}: {facts['target']}, {facts['steps']} steps"
    if kind == "features":
        return f"{facts['windows']} windows"
    if kind == "environments":
        return f"{facts.get('environment', 'simulator')}, Python {facts['python']}"
    counts = facts["episodes"]
    source = " ".join(facts[name] for name in ("benchmark", "type") if name in facts)
    return f"{source} {sum(counts.values())} episodes of {len(counts)} tasks".strip()


@dataclass(frozen=True)
class Run:
    """A run folder and what it needs.

    Args:
        folder: The run folder.
        recipe: Name of the recipe.
        needs: Names of artifacts.
        damage: Why it is not known what it needs; empty where it is.
    """

    folder: Path
    recipe: str
    needs: frozenset[str]
    damage: str = ""


def existing(store: Store) -> Store:
    """The same store.

    Raises:
        StorageError: It is not there.
    """
    if not store.root.is_dir():
        raise StorageError(
            f"There is no store in {store.root}.",
            "Work in the folder from which recipes were run, or set VPOLICY_HOME to where the store lies now.",
        )
    return store


def runs_of(store: Store, folders: Sequence[Path]) -> list[Run]:
    """All runs that are known: those noted in the store whose folders still exist, and those in given folders.

    Args:
        store: The store.
        folders: Folders of run folders.
    """
    found: dict[Path, Run] = {}
    for path in sorted((store.root / RUNS).glob("*.json")):
        try:
            noted = read_mapping(path) or {}
            folder, needs = Path(str(noted["run"])), frozenset(map(str, noted["needs"]))
        except (StorageError, KeyError, TypeError) as error:
            found[path] = Run(path, path.stem, frozenset(), f"{path} is damaged: {error}")
            continue
        if (folder / "provenance.json").is_file():
            found[folder] = Run(folder, str(noted.get("recipe", folder.name)), needs)
    for parent in folders:
        for path in sorted(parent.glob("*/provenance.json")):
            run = _read_run(store, path.parent.resolve())
            known = found.get(run.folder)
            found[run.folder] = Run(run.folder, run.recipe, run.needs | known.needs) if known else run
    return list(found.values())


def _read_run(store: Store, folder: Path) -> Run:
    """What a run folder itself says: also one that was copied here, or made before the store took notes."""
    damage = ""
    try:
        facts = RunFolder(folder).provenance() or Provenance()
    except StorageError as error:
        facts, damage = Provenance(), error.message
    needs = {f"stages/{stage.key}" for stage in facts.stages if stage.key}
    if facts.data and facts.data.key:
        needs.add(f"datasets/{facts.data.key}")
    try:
        stages = RunFolder(folder).recipe().get("train") or ()
        starts = [Path(str(stage.get("init_from") or "")) for stage in stages]
    except (StorageError, AttributeError, TypeError):
        starts = []
    for start in starts:
        if start.parent.parent.resolve() == store.root.resolve():
            needs.add(f"{start.parent.name}/{start.name}")
    return Run(folder, facts.name or folder.name, frozenset(needs), damage)


def artifacts(store: Store, runs: Sequence[Run], wanted: Mapping[str, str]) -> list[Artifact]:
    """All artifacts, those of a kind in order of size, the largest first.

    Args:
        store: The store.
        runs: All runs that are known.
        wanted: Who needs an artifact besides runs, by its name.
    """
    users: dict[str, list[str]] = {name: [user] for name, user in wanted.items()}
    for run in runs:
        for name in run.needs:
            users.setdefault(name, []).append(run.recipe)
    folders = {f"{kind}/{path.name}": path for kind in KINDS for path in _folders(store.root / kind)}
    for name, path in folders.items():
        for part in _uses(path):
            users.setdefault(part, []).extend(users.get(name, ()))
    found = [_artifact(path, tuple(dict.fromkeys(users.get(name, ())))) for name, path in folders.items()]
    return sorted(found, key=lambda one: (KINDS.index(one.kind), -one.bytes, one.key))


def others(store: Store) -> dict[str, int]:
    """Size in bytes of everything else in the store, by name: caches, logs, jobs."""
    rest = (path for path in sorted(store.root.iterdir()) if path.name not in (*KINDS, RUNS))
    sizes = {path.name: _size(path)[0] for path in rest}
    return {name: size for name, size in sizes.items() if size}


def verifiable(artifact: Artifact) -> bool:
    """Whether damage could be found: hashes of its files were recorded when it was finished."""
    if artifact.facts is None:
        return False
    return artifact.kind == "environments" or recorded(artifact.folder)


def problems(artifact: Artifact) -> Iterator[str]:
    """What is wrong with a finished artifact, one phrase for each file; every file is read."""
    if artifact.damage:
        yield artifact.damage
    if artifact.kind == "environments":
        if not (artifact.folder / "bin" / "python").is_file():
            yield "its interpreter is not on this machine"
        return
    try:
        yield from differences(artifact.folder, thorough=True, closed=artifact.kind == "datasets")
    except StorageError as error:
        yield error.message


def unneeded(found: Sequence[Artifact], days: float) -> list[Artifact]:
    """What no run needs and nobody has used or changed for some days."""
    limit = time.time() - days * DAY
    return [artifact for artifact in found if not artifact.users and artifact.changed <= limit]


def prune(store: Store, artifact: Artifact, days: float, runs: Sequence[Path]) -> bool:
    """Remove an artifact, unless a process works on it or somebody has begun to need it since.

    Its mark goes first, so that a half removed artifact is never taken for a finished one.

    Args:
        store: The store.
        artifact: From `unneeded`.
        days: As for `unneeded`.
        runs: Folders of run folders.

    Returns:
        Whether it is gone.
    """
    folder = artifact.folder
    what = f"{artifact.name}, so it is left"
    beside = folder.with_name(f".{folder.name}.lock")
    hold = locked_file(beside, what) if artifact.kind == "environments" else locked(folder, what)
    with suppress(BusyError), hold:
        needed = any(artifact.name in run.needs for run in runs_of(store, runs))
        if needed or not unneeded([_artifact(folder, ())], days):
            return False
        with storage_errors(folder):
            (folder / MARKER).unlink(missing_ok=True)
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != ".lock":  # somebody may be waiting for it
                    path.unlink()
        return True
    return False


def forget_runs(store: Store) -> None:
    """Remove the notes of run folders that are gone."""
    for path in sorted((store.root / RUNS).glob("*.json")):
        if not Path(str(_json(path).get("run", ""))).is_dir():
            path.unlink(missing_ok=True)


def _folders(parent: Path) -> list[Path]:
    """Folders that hold something; of what was pruned a lock is left."""
    if not parent.is_dir():
        return []
    inside = (path for path in sorted(parent.iterdir()) if path.is_dir())
    return [path for path in inside if any(one.name != ".lock" for one in path.iterdir())]


def _artifact(folder: Path, users: tuple[str, ...]) -> Artifact:
    size, newest = _size(folder)
    marker = folder / MARKER
    facts, damage = None, ""
    try:
        facts = Store.finished(folder)
    except StorageError as error:
        damage = error.message
    changed = marker.stat().st_mtime if facts is not None else newest
    return Artifact(folder.parent.name, folder.name, folder, facts, size, changed, users, damage)


def _size(path: Path) -> tuple[int, float]:
    """Bytes of the files below a path, and when the youngest was changed."""
    status = path.stat()
    if not path.is_dir():
        return status.st_size, status.st_mtime
    total, newest = 0, status.st_mtime
    for parent, _, names in os.walk(path):
        for name in names:
            one = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - a hundred thousand files
            total, newest = total + one.st_size, max(newest, one.st_mtime)
    return total, newest


def _uses(folder: Path) -> list[str]:
    try:
        return [str(name) for name in json.loads((folder / USES).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
