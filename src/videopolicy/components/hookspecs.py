"""The one hook through which everything that a recipe can name arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from videopolicy.components.kinds import Component

ENTRY_POINT_GROUP = "vpolicy"

hookspec = pluggy.HookspecMarker(ENTRY_POINT_GROUP)
hookimpl = pluggy.HookimplMarker(ENTRY_POINT_GROUP)


@hookspec
def vpolicy_components() -> list[type[Component]]:  # type: ignore[empty-body]
    """Return the component classes that this plugin provides."""
