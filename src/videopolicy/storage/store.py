"""Content-addressed results: what was computed once from the same inputs is never computed again.

Everything expensive (datasets, frozen features, trained stages) lies in a folder named by the hash of what
determines it. A folder counts as finished when it holds ``done.json``; that file is written last.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from videopolicy.components.kinds import Component, WhenActing
from videopolicy.components.registry import Registry
from videopolicy.errors import StorageError

MARKER = "done.json"


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that identify plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(component: Component, registry: Registry, training: bool = False) -> dict[str, Any]:
    """What a component computes is determined by: its options, and the versions of the plugins behind it.

    Args:
        component: The component.
        registry: Says which plugins its parts are from.
        training: Leave out the options that matter only when acting: what training ends with does not depend on them.
    """
    sources: set[str] = set()
    known = {entry.component: entry.plugin for entry in registry.entries()}
    queue: list[Component] = [component]
    while queue:
        part = queue.pop()
        plugin = known.get(type(part))
        sources.add(f"{plugin.distribution} {plugin.source_hash}".strip() if plugin else type(part).__qualname__)
        queue += part.parts().values()
    options = component.model_dump(mode="json", exclude=_when_acting(component) if training else None)
    return {"options": options, "sources": sorted(sources)}


def _when_acting(model: BaseModel) -> dict[str, Any]:
    """The fields marked `WhenActing`, of nested models too, as pydantic's ``exclude`` wants them."""
    found: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if any(isinstance(mark, WhenActing) for mark in field.metadata):
            found[name] = True
        elif isinstance(value, BaseModel) and (inside := _when_acting(value)):
            found[name] = inside
    return found


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that a reader sees the old text or the new one, never a part."""
    part = path.with_name(f".{path.name}.part")
    with storage_errors(path):
        part.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")
        part.replace(path)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into an error that says what to do."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "Free some space on that disk and run the same command again; nothing finished is lost.",
            errno.EDQUOT: "Free some of your quota and run the same command again; nothing finished is lost.",
            errno.EACCES: "Make the folder writable, or choose another one with --runs or VPOLICY_HOME.",
            errno.EPERM: "Make the folder writable, or choose another one with --runs or VPOLICY_HOME.",
            errno.EROFS: "Choose a folder on a writable disk with --runs or VPOLICY_HOME.",
            errno.ENOTDIR: "A file stands where a folder is needed: move it away, or choose another folder.",
            errno.EEXIST: "A file stands where a folder is needed: move it away, or choose another folder.",
        }
        if error.errno not in hints:
            raise
        raise StorageError(f"{path} cannot be written: {error.strerror}.", hints[error.errno]) from error


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


@contextmanager
def locked(folder: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a folder against other processes; the lock vanishes with the process, however that ends.

    Args:
        folder: The folder.
        what: What is being done in it, for the message.
        wait: Whether to wait for another process that holds it, which may leave nothing to be done.

    Raises:
        StorageError: Another process holds it.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise StorageError(
                f"Another process is working on {what} ({folder}).", "Wait for it, or end it, and run this again."
            ) from None
        yield
    finally:
        handle.close()
