"""What identifies a result: a digest of everything that determines its content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from videopolicy.components.kinds import Component, WhenActing
from videopolicy.components.registry import Registry


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


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
